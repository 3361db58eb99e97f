"""Authentication at a registry: a user's name and password, or a token of another server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from edgead.artifact.oci.credentials import Credentials, may_see_password
from edgead.errors import EdgeadError

_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"')
_MAX_HEADER = 4096


class RegistryError(EdgeadError):
    """A registry that is away, refuses, or does not keep to the standard; it may do better another time."""


def authorization(
    challenge: str, origin: str, credentials: Credentials | None, ask: Callable[[str, dict[str, str]], bytes]
) -> str:
    """Answer a registry that wants to know who asks; gives the value of the header `Authorization`.

    Parameters
    ----------
    challenge : str
        Its `WWW-Authenticate`.
    origin : str
        Of the registry. A server of tokens must be there too, or have HTTPS. The password goes to one of another host
        only where `EDGEAD_REGISTRY_TOKEN_HOSTS` names it.
    credentials : Credentials or None
    ask : callable
        Gives the body of an answer to a GET with these headers.

    Raises
    ------
    RegistryError
        There is no answer to that, or the server of tokens gives none.
    """
    kind, _, rest = challenge[:_MAX_HEADER].partition(" ")
    if kind.lower() == "basic":
        if credentials is None:
            raise RegistryError(f"{origin} wants a user and a password: `docker login`, or EDGEAD_REGISTRY_USER")
        return credentials.basic
    values = dict(_PARAMETER.findall(rest))
    realm = values.pop("realm", "")
    if kind.lower() != "bearer" or not realm:
        raise RegistryError(f"{origin} wants an authorization that edgead does not know ({kind[:20]!r})")
    parts = urlsplit(realm)
    if parts.scheme != "https" and f"{parts.scheme}://{parts.netloc}" != origin:
        raise RegistryError(f"{origin} sends to a server of tokens without HTTPS: no password goes there")
    host = parts.hostname or ""
    if credentials is not None and not may_see_password(host, urlsplit(origin).hostname or ""):
        raise RegistryError(
            f"{origin} wants its password sent to {host[:100]}, another host: where that is right, set "
            "EDGEAD_REGISTRY_TOKEN_HOSTS to it"
        )
    query = urlencode({name: values[name] for name in ("service", "scope") if name in values})
    headers = {"Authorization": credentials.basic} if credentials else {}
    body = ask(f"{realm}{'&' if parts.query else '?'}{query}", headers)
    try:
        content = json.loads(body)
        token = content.get("token") or content["access_token"]
    except (ValueError, KeyError, AttributeError, RecursionError):
        raise RegistryError(f"{origin}: its server of tokens gives none") from None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryError(f"{origin}: its server of tokens gives one that no header can hold")
    return f"Bearer {token}"
