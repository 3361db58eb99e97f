"""Gate before all endpoints, which also sets the headers of all answers."""

from __future__ import annotations

import ipaddress
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgead.line.web.auth.callers import Refusal
from edgead.line.web.auth.guard import Guard
from edgead.line.web.auth.roles import SAFE_METHODS
from edgead.line.web.problems import problem

# Open to all clients: probes, the page without its data, and signing in.
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/docs", "/api/session", "/api/login"})
OPEN_FOLDER = "/page/"
_MAX_BODY_BYTES = 64 * 1024
_IMAGE_PATH = re.compile(r"/api/pipelines/[^/]+/judge|/api/commission/[^/]+/(?:images|try)")
MAX_IMAGE_BYTES = 32 * 1024 * 1024
# A name or an address, and a port: no user before, nothing after.
_HOST = re.compile(r"(?:(?P<name>[A-Za-z0-9.-]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: forms would then be sent with an Origin of null, which is refused.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class AccessGate:
    """Middleware that refuses other sites' pages, callers who are not signed in, and endless bodies."""

    def __init__(self, app: ASGIApp, guard: Guard):
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        outward = _with_headers(scope, send)
        try:
            self._check(HTTPConnection(scope))
            await self._app(scope, _bounded(scope, receive), outward)
        except Refusal as refused:
            answer = problem(refused.status, refused.detail, refused.headers)
            await answer(scope, receive, outward)

    def _check(self, request: HTTPConnection) -> None:
        if "transfer-encoding" in request.headers and "content-length" in request.headers:
            # A proxy in front may see the body's end elsewhere (RFC 9112, 6.1).
            raise Refusal(400, "a body has a length or is chunked, not both", {"Connection": "close"})
        if self._guard.is_open:
            refuse_foreign_host(request.headers)
        refuse_foreign_origin(request.scope["method"], request.headers)
        path = request.scope["path"]
        if path not in OPEN_PATHS and not path.startswith(OPEN_FOLDER):
            request.scope["signed_in"] = self._guard.admit(request)


def refuse_foreign_host(headers: Headers) -> None:
    """Refuse host names other than localhost: an attacker's page, rebound to 127.0.0.1, sends the attacker's name.

    Raises
    ------
    Refusal
        421. With a token this check is not needed: a rebound page has no cookie of this server.
    """
    found = _HOST.fullmatch(headers.get("host", ""))
    try:
        host = (found["name"] or found["ipv6"]).lower() if found else ""
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise Refusal(421, "without a token only 127.0.0.1 and localhost are answered: set http.token or http.users")


def refuse_foreign_origin(method: str, headers: Headers) -> None:
    """Refuse requests by pages of other sites, except plain navigation that changes nothing.

    Raises
    ------
    Refusal
        403.
    """
    foreign_fetch = headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
    if foreign_fetch and (method not in SAFE_METHODS or headers.get("sec-fetch-mode") != "navigate"):
        raise Refusal(403, "requests of other sites' pages are refused")
    origin = headers.get("origin")
    if origin is None or method in SAFE_METHODS:
        return  # browsers send it with every change; other programs need not
    # The schemes may differ: a proxy in front may speak HTTPS.
    if origin.lower().partition("://")[2] != headers.get("host", "").lower():
        raise Refusal(403, "the request comes from another site's page")


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """Limit a request's body to the most bytes that its endpoint reads; raise Refusal 413 if it is larger."""
    most = MAX_IMAGE_BYTES if _IMAGE_PATH.fullmatch(scope["path"]) else _MAX_BODY_BYTES
    declared = Headers(scope=scope).get("content-length", "0")
    if declared.isdigit() and int(declared) > most:
        raise Refusal(413, f"more than {most} bytes")
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise HTTPException(413, f"more than {most} bytes")
        return message

    return bounded


def _with_headers(scope: Scope, send: Send) -> Send:
    async def outward(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            # The page's files are revalidated, not sent again; data of the line stays in no cache.
            fixed = scope["path"] == "/" or scope["path"].startswith(OPEN_FOLDER)
            headers.setdefault("Cache-Control", "no-cache" if fixed else "no-store")
        await send(message)

    return outward
