"""Cookies of a browser: its session, its panel, and a panel's role raised by a PIN.

Session cookies hold only a random number, which only this process knows; they end with the process.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from starlette.requests import HTTPConnection
from starlette.responses import Response

from edgead.line.site.http import HttpSection
from edgead.line.web.auth.accounts import Accounts
from edgead.line.web.auth.callers import Who
from edgead.line.web.auth.panels import Panel, Panels

_MAX_SESSIONS = 64
_MAX_OF_A_PERSON = 8
_SESSION, _PANEL, _RAISED = "edgead", "edgead-panel", "edgead-raised"
# Only this host can set a cookie with this prefix, over HTTPS.
_OVER_TLS = "__Host-"


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """Session of a browser: its identity, CSRF token for changes, end, and time of the last request (monotonic s)."""

    who: Who
    csrf: str
    ends: float
    used: float


class Sessions:
    """Table of sessions, limited per person and in all; beyond a limit, the busiest person's oldest session ends.

    A session ends after its lifetime, or earlier if its browser sends no request for `idle_s`.
    """

    def __init__(self, *, lifetime_s: float, idle_s: float = math.inf, clock: Callable[[], float] = time.monotonic):
        self.lifetime_s = lifetime_s
        self._idle_s = idle_s
        self._clock = clock
        # Keyed by hash: the time of a look-up reveals nothing about existing cookies.
        self._sessions: OrderedDict[bytes, BrowserSession] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, who: Who) -> str:
        """Open a session; return the value of its cookie."""
        cookie = secrets.token_urlsafe(32)
        now = self._clock()
        session = BrowserSession(who, secrets.token_urlsafe(32), now + self.lifetime_s, now)
        with self._lock:
            self._sessions[_digest(cookie)] = session
            counts = Counter(_whose(other.who) for other in self._sessions.values())
            # Not for a token, which a whole plant may share.
            if who.name and counts[_whose(who)] > _MAX_OF_A_PERSON:
                self._end_oldest(_whose(who))
            elif len(self._sessions) > _MAX_SESSIONS:
                self._end_oldest(counts.most_common(1)[0][0])
        return cookie

    def find(self, cookie: str | None) -> BrowserSession | None:
        """Return the session of a cookie; None if it has none, or the session has ended."""
        if not cookie:
            return None
        key = _digest(cookie)
        with self._lock:
            session = self._sessions.get(key)
            now = self._clock()
            if session is None or min(session.ends, session.used + self._idle_s) <= now:
                self._sessions.pop(key, None)
                return None
            self._sessions[key] = replace(session, used=now)
            return session

    def left_s(self, session: BrowserSession) -> float:
        """Return the seconds until a session ends."""
        return max(0.0, session.ends - self._clock())

    def close(self, cookie: str | None) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_digest(cookie or ""), None)

    def _end_oldest(self, whose: tuple[str, ...]) -> None:
        del self._sessions[next(key for key, session in self._sessions.items() if _whose(session.who) == whose)]

    def __len__(self) -> int:
        return len(self._sessions)


def _whose(who: Who) -> tuple[str, ...]:
    return who.name, who.panel, "" if who.name else who.role


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Identity of a request's sender, with the CSRF token of its session."""

    who: Who
    csrf: str | None = None
    """Token that changes must bring; None if no browser sends the credentials by itself."""


class Cookies:
    """Cookies of browsers: opens, finds and ends their sessions."""

    def __init__(self, section: HttpSection, accounts: Accounts):
        self.panels = Panels(section.panels)
        self.sessions = Sessions(lifetime_s=section.session_hours * 3600, idle_s=section.session_idle_minutes * 60)
        self.raised = Sessions(lifetime_s=section.unlock_minutes * 60)
        self._section, self._accounts = section, accounts

    def find(self, request: HTTPConnection) -> SignedIn | None:
        """Find a request's sender: the person who unlocked its panel, else the signed-in person, else the panel."""
        panel = self.panel_of(request)
        raised = self._valid(self.raised, self._value(request, _RAISED)) if panel else None
        if panel and raised and raised.who.panel == panel.name:
            return SignedIn(raised.who, raised.csrf)
        session = self._valid(self.sessions, self._value(request, _SESSION))
        if session is not None:
            return SignedIn(session.who, session.csrf)
        return SignedIn(self.as_panel(panel.name), panel.csrf) if panel else None

    def panel_of(self, request: HTTPConnection) -> Panel | None:
        """Return the panel that a request comes from, or None."""
        return self.panels.find(self._value(request, _PANEL))

    def as_panel(self, name: str) -> Who:
        """Return the identity of a panel that nobody has unlocked."""
        return Who(self._section.panels[name].role, "panel", panel=name)

    def raised_s(self, request: HTTPConnection) -> float | None:
        """Return the seconds for which a PIN still raises the panel's role; None if no PIN does."""
        session = self.raised.find(self._value(request, _RAISED))
        return None if session is None else self.raised.left_s(session)

    def _valid(self, sessions: Sessions, cookie: str | None) -> BrowserSession | None:
        session = sessions.find(cookie)
        account = session.who.account if session else None
        if session and account and self._accounts.find(session.who.name) != (session.who.name, account):
            sessions.close(cookie)  # the file of users says something else about this person now
            return None
        return session

    def sign_in(self, request: HTTPConnection, answer: Response, who: Who) -> None:
        """Open a session, set its cookie in an answer, and end the browser's earlier sessions."""
        self.sign_out(request, answer)
        if who.way == "panel":
            self._give(
                request, answer, _PANEL, self.panels.open(who.panel), self._section.panels[who.panel].days * 86_400
            )
        else:
            self._give(request, answer, _SESSION, self.sessions.open(who), self.sessions.lifetime_s)

    def sign_out(self, request: HTTPConnection, answer: Response) -> None:
        """End the sessions of a browser."""
        for each in (_OVER_TLS, ""):
            self.sessions.close(request.cookies.get(each + _SESSION))
            self.panels.close(request.cookies.get(each + _PANEL))
        self._take(request, answer, _SESSION)
        self._take(request, answer, _PANEL)
        self.lock(request, answer)

    def unlock(self, request: HTTPConnection, answer: Response, who: Who) -> None:
        """Raise the role of a panel for some minutes, by a second cookie beside the panel's own."""
        self.raised.close(self._value(request, _RAISED))
        self._give(request, answer, _RAISED, self.raised.open(who), self.raised.lifetime_s)

    def lock(self, request: HTTPConnection, answer: Response) -> None:
        """End the raised role of a panel."""
        self.raised.close(self._value(request, _RAISED))
        self._take(request, answer, _RAISED)

    def _value(self, request: HTTPConnection, name: str) -> str | None:
        value = request.cookies.get(_OVER_TLS + name)
        return value if value is not None or self._section.secure_cookie else request.cookies.get(name)

    def _give(self, request: HTTPConnection, answer: Response, name: str, value: str, lifetime_s: float) -> None:
        # With each change browsers send their page's origin, whatever proxy is between them and us.
        secure = self._section.secure_cookie or request.headers.get("origin", "").lower().startswith("https://")
        name, age_s = _OVER_TLS + name if secure else name, int(lifetime_s)
        answer.set_cookie(name, value, max_age=age_s, httponly=True, samesite="strict", secure=secure)

    def _take(self, request: HTTPConnection, answer: Response, name: str) -> None:
        for each in (name, _OVER_TLS + name):
            if each in request.cookies:
                answer.delete_cookie(each, httponly=True, samesite="strict", secure=each != name)
