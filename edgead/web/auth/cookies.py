"""Cookies of a browser: its session, its panel, and a PIN that raises the panel's role."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.responses import Response

from edgead.site.http import HttpSection
from edgead.web.auth.accounts import Accounts
from edgead.web.auth.callers import Who
from edgead.web.auth.panels import Panel, Panels
from edgead.web.auth.sessions import Session, Sessions

_SESSION, _PANEL, _RAISED = "edgead", "edgead-panel", "edgead-raised"
# A cookie of such a name can be set by nobody but this host, over HTTPS.
_OVER_TLS = "__Host-"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """How a request was let in."""

    who: Who
    csrf: str | None = None
    """What it must bring to change something; None where no browser sends what lets it in by itself."""


class Cookies:
    """Opens, finds and ends the sessions of browsers."""

    def __init__(self, section: HttpSection, accounts: Accounts):
        self.panels = Panels(section.panels)
        self.sessions = Sessions(lifetime_s=section.session_hours * 3600, idle_s=section.session_idle_minutes * 60)
        self.raised = Sessions(lifetime_s=section.unlock_minutes * 60)
        self._section, self._accounts = section, accounts

    def find(self, request: HTTPConnection) -> SignedIn | None:
        """Find out who sends a request: who has unlocked its panel, else who signed in, else the panel."""
        panel = self.panel_of(request)
        raised = self._valid(self.raised, self._value(request, _RAISED)) if panel else None
        if panel and raised and raised.who.panel == panel.name:
            return SignedIn(raised.who, raised.csrf)
        session = self._valid(self.sessions, self._value(request, _SESSION))
        if session is not None:
            return SignedIn(session.who, session.csrf)
        return SignedIn(self.as_panel(panel.name), panel.csrf) if panel else None

    def panel_of(self, request: HTTPConnection) -> Panel | None:
        """Give the panel that a request comes from."""
        return self.panels.find(self._value(request, _PANEL))

    def as_panel(self, name: str) -> Who:
        """Give whom anybody at a panel is."""
        return Who(self._section.panels[name].role, "panel", panel=name)

    def raised_s(self, request: HTTPConnection) -> float | None:
        """How long a PIN raises the role of a panel from now on; None where none does."""
        session = self.raised.find(self._value(request, _RAISED))
        return None if session is None else self.raised.left_s(session)

    def _valid(self, sessions: Sessions, cookie: str | None) -> Session | None:
        session = sessions.find(cookie)
        account = session.who.account if session else None
        if session and account and self._accounts.find(session.who.name) != (session.who.name, account):
            sessions.close(cookie)  # the file of users says something else of this person now
            return None
        return session

    def sign_in(self, request: HTTPConnection, answer: Response, who: Who) -> None:
        """Open a session, give its cookie to an answer, and end those that the browser had before."""
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
        """Raise the role of a panel for some minutes; its own cookie is worth no more than before."""
        self.raised.close(self._value(request, _RAISED))
        self._give(request, answer, _RAISED, self.raised.open(who), self.raised.lifetime_s)

    def lock(self, request: HTTPConnection, answer: Response) -> None:
        """End what a PIN has raised."""
        self.raised.close(self._value(request, _RAISED))
        self._take(request, answer, _RAISED)

    def _value(self, request: HTTPConnection, name: str) -> str | None:
        value = request.cookies.get(_OVER_TLS + name)
        return value if value is not None or self._section.secure_cookie else request.cookies.get(name)

    def _give(self, request: HTTPConnection, answer: Response, name: str, value: str, lifetime_s: float) -> None:
        # Browsers send with each change where its page comes from, whatever stands between them and us.
        secure = self._section.secure_cookie or request.headers.get("origin", "").lower().startswith("https://")
        name, age_s = _OVER_TLS + name if secure else name, int(lifetime_s)
        answer.set_cookie(name, value, max_age=age_s, httponly=True, samesite="strict", secure=secure)

    def _take(self, request: HTTPConnection, answer: Response, name: str) -> None:
        for each in (name, _OVER_TLS + name):
            if each in request.cookies:
                answer.delete_cookie(each, httponly=True, samesite="strict", secure=each != name)
