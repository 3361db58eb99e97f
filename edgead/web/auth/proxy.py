"""Headers of a trusted proxy that name the caller, and the same headers from anybody else."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from starlette.requests import HTTPConnection

from edgead.site.http import ProxySection
from edgead.site.users import Role, user_name
from edgead.web.auth.callers import Who
from edgead.web.auth.panels import same
from edgead.web.auth.refusal import Refusal
from edgead.web.auth.roles import higher

# The address that the connection comes from, whatever X-Forwarded-For says.
PEER = "edgead.peer"


class Proxy:
    """Believes the headers of a section's addresses, and refuses them from all others."""

    def __init__(self, section: ProxySection):
        self._section = section
        self._user, self._groups, self._secret = (
            name.lower() for name in (section.user_header, section.groups_header, section.secret_header)
        )

    def find(self, request: HTTPConnection) -> Who | None:
        """Give who asks, by the proxy's word; None where no header says anything of it.

        Raises
        ------
        Refusal
            403: the headers come from elsewhere, without the secret, twice, under a name that only looks like one of
            them, with an empty or impossible name, or with no group that has a role.
        """
        given = self._given(request)
        if not given:
            return None
        if not self._is_trusted(str(request.scope.get(PEER) or (request.client.host if request.client else ""))):
            raise Refusal(
                403,
                f"{self._section.user_header} is believed only from the addresses of http.proxy.from, not from yours",
            )
        secret = self._section.secret
        if secret is not None and not same(given.get(self._secret, ""), secret.get_secret_value()):
            raise Refusal(403, f"{self._section.secret_header} is not the secret of http.proxy")
        if self._user not in given:
            if self._groups in given:
                raise Refusal(403, f"{self._section.groups_header} came without {self._section.user_header}")
            return None
        return self._who(given)

    def _who(self, given: Mapping[str, str]) -> Who:
        try:
            name = user_name(given[self._user])
        except ValueError as error:
            raise Refusal(403, f"{self._section.user_header}: {error}") from None
        groups = {group.strip() for group in given.get(self._groups, "").split(self._section.separator)}
        role: Role | None = None
        for group, of_group in self._section.roles.items():
            if group in groups:
                role = higher(of_group, role or of_group)
        if role is None:
            raise Refusal(403, f"{name} is in no group that http.proxy.roles gives a role")
        return Who(role, "proxy", name)

    def _given(self, request: HTTPConnection) -> dict[str, str]:
        """Find our headers, each once and under its own name: `X_Forwarded_User` passes proxies that take ours out."""
        given: dict[str, str] = {}
        for raw, value in request.scope["headers"]:
            name = raw.decode("latin-1")
            meant = name.replace("_", "-")
            if meant not in (self._user, self._groups, self._secret):
                continue
            if meant != name or name in given:
                raise Refusal(403, f"the header {meant} came {'twice' if name in given else f'as {name}'}")
            try:
                given[name] = value.decode("utf-8").strip()
            except UnicodeDecodeError:
                raise Refusal(403, f"the header {name} is not UTF-8") from None
        return given

    def _is_trusted(self, address: str) -> bool:
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(peer, "ipv4_mapped", None)
        return any((mapped or peer) in network for network in self._section.from_)
