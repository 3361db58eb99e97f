"""The address of a language model: where it is, and what may be sent there."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from edgead.components.uri import checked_host, origin
from edgead.errors import SettingsError

KEY_VARIABLE = "EDGEAD_CHAT_KEY"
_EXAMPLE = "write it as http://127.0.0.1:8080/v1"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """Where an OpenAI-compatible server listens; `key` is never part of what is shown."""

    scheme: str
    host: str
    port: int
    path: str
    key: str | None

    @property
    def shown(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_here(self) -> bool:
        """Whether it names this machine; nothing leaves it then."""
        return self.host == "localhost" or is_loopback(self.host)

    def __repr__(self) -> str:
        return f"Address({self.shown}{', with a key' if self.key else ''})"


def read_address(url: str) -> Address:
    """Read an address, and the key from the environment variable EDGEAD_CHAT_KEY.

    Raises
    ------
    SettingsError
        It is no http or https address, holds a password or options, or a key would go in clear text to another
        machine. The address is not quoted beyond its host: it may hold a secret.
    """
    shown = origin(url)
    parts = urlsplit(url) if shown else None
    if parts is None or parts.scheme not in _PORTS or not parts.hostname:
        raise SettingsError(f"--endpoint: no http or https address of a server: {_EXAMPLE}")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SettingsError(f"--endpoint: {shown} with a password or options: {_EXAMPLE}, a key in {KEY_VARIABLE}")
    try:
        host = checked_host(parts.hostname)
    except ValueError as error:
        raise SettingsError(f"--endpoint: the host {error}") from None
    address = Address(parts.scheme, host, parts.port or _PORTS[parts.scheme], parts.path.rstrip("/"), _key())
    if not address.path.isascii() or not address.path.isprintable() or " " in address.path:
        raise SettingsError(f"--endpoint: {shown}: its path holds what no address may: {_EXAMPLE}")
    if address.key and address.scheme == "http" and not address.is_here:
        raise SettingsError(
            f"{KEY_VARIABLE} would go to {shown} in clear text: use https, or unset it where the server wants no key"
        )
    return address


def is_loopback(host: str) -> bool:
    """Whether a number of a host is one of this machine's own, in either version of IP.

    >>> is_loopback("127.0.0.2"), is_loopback("::ffff:127.0.0.1"), is_loopback("192.168.0.4"), is_loopback("here")
    (True, True, False, False)
    """
    try:
        number = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(number, "ipv4_mapped", None)
    return (mapped or number).is_loopback


def _key() -> str | None:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError(f"{KEY_VARIABLE}: a key has no spaces and no letters beyond ASCII")
    return key or None
