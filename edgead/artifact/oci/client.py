"""HTTP client of an OCI registry (httpx): bounded time and size, and credentials for that registry alone.

Credentials come from the environment or `docker login`; a separate token server may exchange them for a token.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

from edgead.artifact.oci.reference import Reference
from edgead.errors import EdgeadError, SettingsError
from edgead.files.regular_files import MissingFileError, UnreadableFileError, read_regular
from edgead.process.http_attempt import Attempts
from edgead.process.installation import install_command

if TYPE_CHECKING:
    import httpx

_MAX_BYTES = 1 << 20
_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"')
_MAX_HEADER = 4096
TIMEOUT_S = 20.0
_MAX_ANSWER = 64 << 10
_MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Credentials:
    """User name and password, which no text form shows."""

    user: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """Value of the header `Authorization` for basic authentication."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_credentials(host: str) -> Credentials | None:
    """Look up the credentials for a registry in the environment and Docker's file; None for anonymous access.

    `host`: name of the host, with its port if any.
    Raises SettingsError: Docker's file cannot be read, or the environment does not say to which registry its password
        belongs.
    """
    user = os.environ.get("EDGEAD_REGISTRY_USER")
    of_host = os.environ.get("EDGEAD_REGISTRY_HOST")
    if user and not of_host:
        raise SettingsError(
            "EDGEAD_REGISTRY_HOST is missing: name the registry that EDGEAD_REGISTRY_USER and its password are of, "
            f"such as {host}; others do not get them"
        )
    if user and host == of_host:
        return Credentials(user, os.environ.get("EDGEAD_REGISTRY_PASSWORD", ""))
    file = Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")) / "config.json"
    try:
        content = json.loads(read_regular(file, _MAX_BYTES))
        entry = content.get("auths", {}).get(host, {}).get("auth", "")
        user, colon, password = base64.b64decode(entry, validate=True).decode().partition(":")
    except MissingFileError:
        return None
    except UnreadableFileError as error:
        raise SettingsError(f"{file} {error}: let this user read it, or set EDGEAD_REGISTRY_USER") from None
    except (ValueError, AttributeError, TypeError, RecursionError, binascii.Error):
        raise SettingsError(f"{file} is not as `docker login` writes it: log in again") from None
    return Credentials(user, password) if colon else None


def may_see_password(host: str, registry: str) -> bool:
    """Whether a token server may get the registry's password: it is on the same host, or the user has named it.

    `host`, `registry`: names of hosts without ports.
    """
    return host in {registry, *re.split(r"[\s,]+", os.environ.get("EDGEAD_REGISTRY_TOKEN_HOSTS", ""))}


class RegistryError(EdgeadError):
    """Registry that cannot be reached, refuses, or violates the standard; a later attempt may succeed."""


def authorization(
    challenge: str, origin: str, credentials: Credentials | None, ask: Callable[[str, dict[str, str]], bytes]
) -> str:
    """Answer a registry's authentication challenge; return the value of the header `Authorization`.

    `challenge`: the registry's header `WWW-Authenticate`.
    `origin`: origin of the registry. A token server must have the same origin, or use HTTPS. On another host, it gets
        the password only if `EDGEAD_REGISTRY_TOKEN_HOSTS` names the host.
    `ask`: function that sends a GET with these headers and returns the body of the response.
    Raises RegistryError: the challenge cannot be answered, or the token server gives no token.
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


# These log whole URLs, and a redirect may have put a signature into one that grants access.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Client:
    """HTTP client of one repository of a registry.

    `transport`: replaces the network, for tests.
    """

    def __init__(self, reference: Reference, transport: httpx.BaseTransport | None = None):
        try:
            import httpx
        except ModuleNotFoundError:
            raise SettingsError(f"a registry needs `{install_command('fleet')}`") from None
        self.origin = reference.origin
        self.base = f"{self.origin}/v2/{reference.name}/"
        self._credentials = find_credentials(reference.host)
        self._authorization: str | None = None
        self._attempts = Attempts()
        # trust_env: a proxy of the environment is used, .netrc is not, as this module chooses the credentials.
        auth = httpx.Auth()
        limits = httpx.Limits(max_connections=1)
        self._client = httpx.Client(timeout=TIMEOUT_S, auth=auth, limits=limits, transport=transport)

    def close(self) -> None:
        self._client.close()

    def answer(self, method: str, path: str, most: int = _MAX_ANSWER, **options: Any) -> tuple[httpx.Response, bytes]:
        """Send a request and read the whole response; see `open`.

        Raises RegistryError: the response has more than `most` bytes.
        """
        with self.open(method, path, **options) as response:
            body = b"" if method == "HEAD" else _read(response, most, self.origin)
            return response, body

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        within_s: float = TIMEOUT_S,
        **sent: Any,
    ) -> Iterator[httpx.Response]:
        """Send a request, authenticated if the registry demands it; yield the response before its body is read.

        `path`: path relative to the repository, or a whole URL at the registry.
        `within_s`: time limit for the whole exchange, including the reading of the body.
        Raises RegistryError: there is no response in time; also raised while the body is read.
        """
        url = urljoin(self.base, path)
        own = self._signed_in({"Accept-Encoding": "identity", **(headers or {})})
        with self._reached(method, url, own, within_s, sent) as response:
            if response.status_code != 401:
                yield response
                return
            challenge = response.headers.get("www-authenticate", "")
        self._authorization = authorization(challenge, self.origin, self._credentials, self._ask_for_token)
        if hasattr(sent.get("content"), "seek"):
            sent["content"].seek(0)
        with self._reached(method, url, self._signed_in(own), within_s, sent) as response:
            if response.status_code == 401:
                raise RegistryError(f"{self.origin} refuses user and password: check them")
            yield response

    @contextmanager
    def followed(self, path: str, headers: Mapping[str, str], within_s: float) -> Iterator[httpx.Response]:
        """GET with redirects, which many registries use for blobs; other servers do not get the credentials."""
        with self.open("GET", path, headers=headers, within_s=within_s) as response:
            if response.status_code not in REDIRECTS:
                yield response
                return
            url = self._elsewhere(str(response.url), response)
        plain = {"Accept-Encoding": "identity", **headers}
        for _ in range(_MAX_REDIRECTS):
            signed = self._signed_in(plain) if _origin(url) == self.origin else plain
            with self._reached("GET", url, signed, within_s, {}) as response:
                if response.status_code not in REDIRECTS:
                    yield response
                    return
                url = self._elsewhere(url, response)
        raise RegistryError(f"{self.origin} leads on and on, more than {_MAX_REDIRECTS} times")

    def place(self, response: httpx.Response) -> str:
        """URL to upload to, from a response's `Location`; it must be at the registry, as credentials are sent there.

        Raises RegistryError: the response has no location, or one at another server.
        """
        url = urljoin(str(response.url), response.headers.get("location", ""))
        if not response.headers.get("location") or _origin(url) != self.origin:
            raise RegistryError(f"{self.origin} wants uploads at another place: nothing is sent there")
        return url

    def _elsewhere(self, url: str, response: httpx.Response) -> str:
        there = urljoin(url, response.headers.get("location", ""))
        if _origin(there) != self.origin and urlsplit(there).scheme != "https":
            raise RegistryError(f"{self.origin} leads to a place without HTTPS: it is not followed")
        return there

    def _signed_in(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {**headers, **({"Authorization": self._authorization} if self._authorization else {})}

    def _ask_for_token(self, url: str, headers: dict[str, str]) -> bytes:
        with self._reached("GET", url, headers, TIMEOUT_S, {}) as response:
            if response.status_code != 200:
                raise RegistryError(f"{self.origin}: its server of tokens answers {response.status_code}")
            return _read(response, _MAX_ANSWER, self.origin)

    @contextmanager
    def _reached(
        self, method: str, url: str, headers: Mapping[str, str], within_s: float, sent: Mapping[str, Any]
    ) -> Iterator[httpx.Response]:
        import httpx

        extensions = {"trace": self._attempts.trace}
        try:
            with self._attempts.within(within_s):
                with self._client.stream(method, url, headers=headers, extensions=extensions, **sent) as response:
                    yield response
        except httpx.TimeoutException:
            raise RegistryError(f"{self.origin} does not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            late = f" does not answer within {within_s:g} s" if self._attempts.overdue else ""
            # Error texts may quote a URL with its secrets; only those of a failed connection are safe to pass on.
            why = str(error) if isinstance(error, httpx.ConnectError) else type(error).__name__
            raise RegistryError(f"{self.origin}{late or f' cannot be reached ({why})'}") from None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _read(response: httpx.Response, most: int, origin: str) -> bytes:
    found = bytearray()
    for chunk in response.iter_raw():
        found += chunk
        if len(found) > most:
            raise RegistryError(f"{origin} sends more than {most} bytes where that cannot be")
    return bytes(found)
