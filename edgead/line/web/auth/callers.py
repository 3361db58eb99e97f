"""Callers: the identity and role of a request's sender, also from a trusted proxy, and names for the audit."""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import HTTPException
from pydantic import AfterValidator, Field, StringConstraints
from starlette.requests import HTTPConnection

from edgead.line.site.http import ProxySection
from edgead.line.site.users import Role, User, user_name
from edgead.line.web.auth.panels import same
from edgead.line.web.auth.roles import higher

_MAX_NAME = 64
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"
# Parentheses are edgead's own: a claimed name must not look like it.
_PLAIN = str.maketrans("()", "[]")
_HOW = {"password": "signed in", "pin": "PIN at {panel}", "proxy": "proxy", "token": "token"}
# Peer address of the connection, whatever X-Forwarded-For says.
PEER = "edgead.peer"


class Refusal(Exception):
    """Refused request: status, reason and headers of the answer."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


def _claim(name: str) -> str:
    """Normalize a name that nobody signed in with, so that it cannot imitate edgead's additions in the audit."""
    name = unicodedata.normalize("NFKC", name).strip()
    if not name.isprintable() or len(name) > _MAX_NAME:
        raise ValueError(f"must be at most {_MAX_NAME} printable characters")
    return name


By = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=_MAX_NAME, pattern=PRINTABLE),
    AfterValidator(_claim),
    Field(
        default="",
        description="Name of the person, for the audit; if somebody is signed in by name, the audit has that name.",
        examples=["Anna"],
    ),
]
Kind = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=PRINTABLE),
    Field(description="Shown name of a kind of defect.", examples=["scratch"]),
]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500, pattern=PRINTABLE)]


@dataclass(frozen=True, slots=True)
class Who:
    """Identity of a request's sender: role, kind of sign-in, and name."""

    role: Role
    way: Literal["open", "token", "password", "pin", "panel", "proxy"]
    name: str = ""
    """Name of a person or a program; empty if there is none."""
    panel: str = ""
    account: User | None = None
    """Record of the person at the sign-in; the session ends when the file of users has another one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Identity and address of a request's sender."""

    who: Who
    address: str


def named(by: str, caller: Caller) -> str:
    """Return the author of a change for the audit: the name that is signed in, or else the claimed name.

    A claimed name never looks like a name that is signed in.

    Raises
    ------
    HTTPException
        422: nobody is signed in by name, and no name is claimed.
    """
    who = caller.who
    if who.name:
        return f"{who.name} ({_HOW[who.way].format(panel=who.panel)}, {caller.address})"
    if who.panel:
        return f"{by.translate(_PLAIN) or 'somebody'} (panel {who.panel}, {caller.address})"
    if not by:
        raise HTTPException(422, "body.by: must not be empty: nobody is signed in by name")
    return f"{by.translate(_PLAIN)} ({caller.address})"


class Proxy:
    """Sign-in by a proxy's headers, which are trusted from the proxy's addresses and refused from all others."""

    def __init__(self, section: ProxySection):
        self._section = section
        self._user, self._groups, self._secret = (
            name.lower() for name in (section.user_header, section.groups_header, section.secret_header)
        )

    def find(self, request: HTTPConnection) -> Who | None:
        """Return the identity in the proxy's headers; None if there are none.

        Raises
        ------
        Refusal
            403: the headers come from another address, without the secret, twice, or under a similar header name; or
            the name is empty or not valid, or none of the groups has a role.
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
        """Collect the proxy's headers, each once and by its exact name: a client may send `X_Forwarded_User`."""
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
