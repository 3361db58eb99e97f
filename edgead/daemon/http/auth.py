"""Who may come in: a token for programs, a cookie for the page, and neither where only this computer can reach us."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.responses import Response

from edgead.daemon.http.rate_limit import FailureLimit
from edgead.daemon.http.sessions import Session, Sessions
from edgead.site.schema import HttpSection

CSRF_HEADER = "x-csrf-token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Refused(Exception):
    """A request that may not go on, with the status, the reason and the headers of the answer."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


@dataclass(frozen=True, slots=True)
class SignedIn:
    """How a request was let in."""

    way: str
    """"open" (no token is set), "token" or "cookie"."""
    session: Session | None = None


class Guard:
    """Checks tokens and cookies, and slows down who guesses."""

    def __init__(self, section: HttpSection):
        self.token = section.token.get_secret_value() if section.token else None
        self.failures = FailureLimit(most=section.failures_most, within_s=section.failures_within_s)
        self.sessions = Sessions(lifetime_s=section.session_hours * 3600)
        self._secure = section.secure_cookie
        # A __Host- cookie can be set by nobody but this host, over HTTPS.
        self.cookie = "__Host-edgead" if self._secure else "edgead"

    def admit(self, request: HTTPConnection) -> SignedIn:
        """Let a request in by its token or cookie.

        Raises
        ------
        Refused
            401 without either or with a wrong one, 403 for a change without the session's CSRF token, 429 after
            too many failures.
        """
        if self.token is None:
            return SignedIn("open")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            self.check_token(given.strip(), client_address(request))
            return SignedIn("token")
        session = self.sessions.find(request.cookies.get(self.cookie))
        if session is None:
            raise Refused(401, "sign in, or send Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        if request.scope["method"] not in _SAFE_METHODS:
            sent = request.headers.get(CSRF_HEADER, "")
            if not _equal(sent, session.csrf):
                raise Refused(403, f"the header {CSRF_HEADER} is not that of this session: load the page again")
        return SignedIn("cookie", session)

    def check_token(self, given: str, address: str) -> None:
        """Compare a token with ours, in a time that shows nothing of it.

        The right one is always let in: behind one proxy all have one address, and anybody there could lock out the
        operator.

        Raises
        ------
        Refused
            401 for a wrong one, 429 for a wrong one after too many.
        """
        if self.token is not None and _equal(given, self.token):
            return
        wait_s = self.failures.wait_s(address)
        if wait_s > 0:
            retry = str(int(wait_s) + 1)
            raise Refused(429, f"too many wrong tokens: try again in {retry} s", {"Retry-After": retry})
        self.failures.add(address)
        raise Refused(401, "the token is wrong", {"WWW-Authenticate": "Bearer"})

    def sign_in(self, answer: Response) -> None:
        """Open a session and give its cookie to an answer."""
        answer.set_cookie(
            self.cookie,
            self.sessions.open(),
            max_age=int(self.sessions.lifetime_s),
            httponly=True,
            samesite="strict",
            secure=self._secure,
        )

    def sign_out(self, request: HTTPConnection, answer: Response) -> None:
        """End the session of a request."""
        self.sessions.close(request.cookies.get(self.cookie))
        answer.delete_cookie(self.cookie, httponly=True, samesite="strict", secure=self._secure)


def client_address(request: HTTPConnection) -> str:
    return request.client.host if request.client else "unknown"


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
