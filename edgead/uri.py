"""URIs of sources and sinks: their parts, their options, and what may be shown of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_AUTHORITY = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*://)([^/?#]*)(.*)$", re.DOTALL)
# USER:PASSWORD@ after a scheme whose :// is not right (rtsp:/, rtsp//), or after none. A drive letter is no user.
_KNOWN = r"(?:rtsps?|https?|camera|synthetic|jsonl|images|video|window|mqtts?|modbus|sqlite)[:;]"
_MISTYPED = re.compile(
    rf"^([a-z][a-z0-9+.-]+(?:[:;][/\\]+|[/\\]{{2,}})|{_KNOWN})?(?!{_KNOWN}|[a-z]:[/\\])[^/\\@:]+:.*@(.*)$",
    re.DOTALL | re.I,
)
# Cameras also take the password in the path: rtsp://host/user=admin_password=secret_channel=1.
_SECRET = re.compile(r"((?:user|login|pass|pwd|token|key|secret|auth|sig|cred|session)[a-z_]*=)[^&#]*", re.I)
_LONG_VALUE = re.compile(r"([?&][^=&#]+=)[^&#]{17,}")


def without_credentials(uri: str) -> str:
    """Remove user name, password and everything that may be a secret from a URI.

    Values of options whose name sounds like a secret, and values longer than 16 characters (tokens), become
    `***`.
    """
    if uri.lower().startswith("webhook:"):
        return uri[:8] + without_credentials(uri[8:])
    found = _AUTHORITY.match(uri)
    if not found:
        mistyped = _MISTYPED.match(uri)
        return (mistyped[1] or "") + _SECRET.sub(r"\1***", mistyped[2]) if mistyped else uri
    scheme, authority, rest = found.groups()
    if "@" in authority:
        authority = authority.rpartition("@")[2]
    elif "@" in rest and (":" in authority or (not authority and ":" in rest.partition("@")[0])):
        # A password with a raw / ? or # in it: what looks like host and port may be user and password. A
        # stream whose path has an @ loses its host in what is shown; that is the smaller harm.
        authority, rest = "", rest.rpartition("@")[2]
    rest = _LONG_VALUE.sub(r"\1***", _SECRET.sub(r"\1***", rest))
    return f"{scheme}{authority}{rest}"


def origin(url: str) -> str:
    """Scheme, host and port of a URL whose path may be a secret; empty where it names no host."""
    try:
        parts = urlsplit(url)
        usable = parts.hostname and parts.port != 0  # asking for the port raises where it is no number
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if usable else ""
    except ValueError:
        return ""


def checked_host(host: str) -> str:
    """Give a host's name as it is, where it can be looked up at all.

    Raises
    ------
    ValueError
        No resolver can be asked for it; the name is not quoted.
    """
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("is no name of a host: between its dots stand 1 to 63 letters") from None
    if not host.isprintable():
        raise ValueError("is no name of a host: it holds a control character")
    return host


def parse_options(uri: str, query: str, allowed: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Read `a=1&b=2` with one converter per known name.

    Raises
    ------
    ValueError
        An unknown name, or a value that its converter refuses; both are named.
    """
    options = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in allowed:
            known = f"known are {', '.join(sorted(allowed))}" if allowed else "it takes none"
            raise ValueError(f"{uri}: unknown option {name!r}; {known}")
        try:
            options[name] = allowed[name](text)
        except ValueError as error:
            raise ValueError(f"{uri}: option {name}={text!r}: {error}") from None
    return options
