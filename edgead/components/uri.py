"""URIs of sources and sinks: splitting into parts and options, and removal of secrets for display."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

_AUTHORITY = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*://)([^/?#]*)(.*)$", re.DOTALL)
# Cameras also take the password in the path: rtsp://host/user=admin_password=secret_channel=1.
_SECRET = re.compile(r"((?:user|login|pass|pwd|token|key|secret|auth|sig|cred|session)[a-z_]*=)[^&#]*", re.I)
_LONG_VALUE = re.compile(r"([?&][^=&#]+=)[^&#]{17,}")
# Shown of a network camera's URI: only these options and parts of the path. Any other may be a secret.
_NETWORK = re.compile(r"(?:rtsps?|https?|udp)://", re.I)
_HARMLESS_OPTION = re.compile(
    r"(width|height|fps|rate|resolution|channel|stream|subtype|profile|camera|codec|videocodec|compression|quality|size)"
    r"=[^=]{0,16}",
    re.I,
)
_HARMLESS_PART = re.compile(
    r"([-_.]|[0-9]{1,4}(?![0-9])|stream(ing)?|channels?|ch|cam(eras?)?|live|video|media|main|sub|profile|h26[45]|mp4|mpeg"
    r"|mjpe?g|mpg|onvif|axis|cgi|bin|preview|realmonitor|isapi|snapshot|track(id)?|unicast|multicast|index|line|view|m3u8"
    r"|ts|jpe?g|amp|sdp)*|.{0,2}|[^=]*=\*{3}",
    re.I,
)
# A ? in a glob stands for any character: only NAME=VALUE at the end of the text are options.
_OPTIONS = re.compile(r"\?([A-Za-z_]+=[^?/]*)$")
# Scheme of edgead-height. Passwords of its two cameras are hidden whether it is installed or not.
_STEREO = "stereo:"
_schemes: set[str] = set()


def know_schemes(schemes: Iterable[str]) -> None:
    """Register URI schemes; any other word before a colon may be a user name, and is hidden up to the @."""
    _schemes.update(schemes)
    _mistyped.cache_clear()


@cache
def _mistyped() -> re.Pattern[str]:
    """Compile the pattern of USER:PASSWORD@ after a mistyped scheme (rtsp:/, rtsp//) or none, but no drive letter."""
    known = rf"(?:{'|'.join(map(re.escape, sorted(_schemes)))})[:;]" if _schemes else r"(?!)"
    return re.compile(
        rf"^([a-z][a-z0-9+.-]+(?:[:;][/\\]+|[/\\]{{2,}})|{known})?(?!{known}|[a-z]:[/\\])[^/\\@:]+:.*@(.*)$",
        re.DOTALL | re.I,
    )


def without_credentials(uri: str) -> str:
    """Remove user name, password and everything that may be a secret from a URI.

    Values of options with a name like that of a secret, and values longer than 16 characters (tokens), become
    `***`. For a network camera, so does every value and part of the path that is not known to be harmless.
    """
    if uri.lower().startswith(_STEREO):
        return _stereo_without_credentials(uri)
    if uri.lower().startswith("webhook:"):
        return uri[:8] + (origin(uri[8:]) or ("***" if uri[8:] else ""))
    found = _AUTHORITY.match(uri)
    if not found:
        mistyped = _mistyped().match(uri)
        return (mistyped[1] or "") + _SECRET.sub(r"\1***", mistyped[2]) if mistyped else uri
    scheme, authority, rest = found.groups()
    if "@" in authority:
        authority = authority.rpartition("@")[2]
    elif "@" in rest and (":" in authority or (not authority and ":" in rest.partition("@")[0])):
        # A password with a raw / ? or # in it: what looks like host and port may be user and password. A
        # stream whose path has an @ loses its host in what is shown; that is the smaller harm.
        authority, rest = "", rest.rpartition("@")[2]
    rest = _LONG_VALUE.sub(r"\1***", _SECRET.sub(r"\1***", rest))
    return f"{scheme}{authority}{_harmless(rest) if _NETWORK.fullmatch(scheme) else rest}"


def _stereo_without_credentials(uri: str) -> str:
    left, right, query = split_stereo(uri)
    if "@" in uri and (uri.count("|") != 1 or "@" in query):  # a password with a raw | or ? in it
        return f"{_STEREO}***"
    pair = "|".join(map(without_credentials, (left, right) if right else (left,)))
    return f"{_STEREO}{pair}?{query}" if query else f"{_STEREO}{pair}"


def split_stereo(uri: str) -> tuple[str, str, str]:
    """Split `stereo:LEFT|RIGHT?a=1` into its two sources, which may have options of their own, and its options."""
    sources, mark, query = uri[len(_STEREO) :].rpartition("?")
    if not mark:
        sources, query = query, ""
    left, _, right = sources.partition("|")
    return left, right, query


def join_stereo(left: str, right: str, query: str) -> str:
    """Join two sources and their options into `stereo:LEFT|RIGHT?a=1`, the reverse of `split_stereo`."""
    return f"{_STEREO}{left}|{right}?{query}"


def split_options(text: str) -> tuple[str, str]:
    """Split a path or a URI from its options (`?a=1`); the name of an existing file is not split."""
    found = None if Path(text).exists() else _OPTIONS.search(text)
    return (text[: found.start()], found[1]) if found else (text, "")


def _harmless(rest: str) -> str:
    """Mask path parts and options of a network camera that are not known to be harmless."""
    path, _, query = rest.partition("#")[0].partition("?")
    first, *others = path.split("/")  # the first is empty, or the host where the password had a / in it
    parts = [first, *(part if _HARMLESS_PART.fullmatch(part) else "***" for part in others)]
    options = [
        option if _HARMLESS_OPTION.fullmatch(option) or option.endswith("=***") else _hidden(option)
        for option in (query.split("&") if query else ())
    ]
    return "/".join(parts) + ("?" + "&".join(options) if options else "")


def _hidden(option: str) -> str:
    name, equals, _ = option.partition("=")
    return f"{name}=***" if equals else "***"


def origin(url: str) -> str:
    """Return scheme, host and port of a URL without its path, which may be a secret; empty if it names no host."""
    try:
        parts = urlsplit(url)
        usable = parts.hostname and parts.port != 0  # asking for the port raises where it is no number
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if usable else ""
    except ValueError:
        return ""


def checked_host(host: str) -> str:
    """Return a host name unchanged if it can be looked up at all.

    Raises ValueError: no resolver accepts the name; the message does not quote it.
    """
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("is no name of a host: between its dots stand 1 to 63 letters") from None
    if not host.isprintable():
        raise ValueError("is no name of a host: it holds a control character")
    return host
