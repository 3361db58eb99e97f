"""Reference of a model in a registry: `oci://HOST[:PORT]/NAME:TAG`, or `@sha256:...` in the place of the tag."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import AfterValidator

from edgead.components.options import is_loopback
from edgead.components.uri import checked_host
from edgead.errors import SettingsError

# The grammar of the distribution specification (opencontainers/distribution-spec, "Pulling manifests").
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = rf"{_PART}(?:/{_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REFERENCE = re.compile(
    rf"oci://(?P<host>\[[0-9a-f:]+\]|[A-Za-z0-9.-]+)(?::(?P<port>[0-9]{{1,5}}))?/(?P<name>{_NAME})"
    rf"(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?(?P<insecure>\?insecure)?"
)
_MAX_CHARACTERS = 512
_EXAMPLE = "oci://registry.example.com/line/caps:stable"


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference of a model in a registry; a digest precedes a tag, and without either it names the repository."""

    host: str
    """Host name of the registry, with the port if one is given."""
    name: str
    tag: str = ""
    digest: str = ""
    insecure: bool = False

    @classmethod
    def read(cls, text: str) -> Reference:
        """Parse a reference.

        Raises SettingsError: the text is no reference; it is not quoted, as it may hold a password.
        """
        found = _REFERENCE.fullmatch(text) if len(text) <= _MAX_CHARACTERS else None
        if found is None:
            secret = "@" in "".join(text.split("/")[2:3])
            hint = "; user and password belong into `docker login` or the environment" if secret else ""
            raise SettingsError(f"this is no address of a model in a registry, such as {_EXAMPLE}{hint}")
        host, port = found["host"], found["port"]
        try:
            checked_host(host.strip("[]"))
        except ValueError as error:
            raise SettingsError(f"{_EXAMPLE}: the host {error}") from None
        if port and not 1 <= int(port) <= 65535:
            raise SettingsError(f"{_EXAMPLE}: port {port} is none, they go from 1 to 65535")
        place = f"{host}:{port}" if port else host
        return cls(place, found["name"], found["tag"] or "", found["digest"] or "", bool(found["insecure"]))

    @property
    def origin(self) -> str:
        """Origin of the registry: https, or http for this computer and for references that end with `?insecure`."""
        bare = self.host.rpartition("]")[0].strip("[") or self.host.partition(":")[0]
        plain = self.insecure or is_loopback(bare)
        return f"{'http' if plain else 'https'}://{self.host}"

    @property
    def wanted(self) -> str:
        """Digest or tag that names the manifest in a request."""
        return self.digest or self.tag

    def at(self, digest: str) -> Reference:
        return replace(self, tag="", digest=digest)

    def tagged(self, tag: str) -> Reference:
        """Make a reference to another tag of the same repository.

        Raises SettingsError: the text cannot be a tag.
        """
        if not re.fullmatch(_TAG, tag):
            raise SettingsError(f"{tag!r} can be no tag: letters, digits, ., _ and -, 128 at most")
        return replace(self, tag=tag, digest="")

    def __str__(self) -> str:
        end = f"@{self.digest}" if self.digest else f":{self.tag}" if self.tag else ""
        return f"oci://{self.host}/{self.name}{end}{'?insecure' if self.insecure else ''}"


def _tagged(text: str) -> str:
    reference = Reference.read(text)
    if not reference.tag or reference.digest:
        raise ValueError(f"names no tag alone, as {_EXAMPLE} does")
    return str(reference)


TaggedModel = Annotated[str, AfterValidator(_tagged)]
"""Type of options that take the address of a tag."""
