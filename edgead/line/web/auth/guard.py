"""Authentication of requests by token, session, panel or proxy; if the site sets none, every client may do all."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets

from starlette.requests import HTTPConnection

from edgead.line.site.http import HttpSection
from edgead.line.site.users import same_name
from edgead.line.web.auth.accounts import Accounts
from edgead.line.web.auth.callers import Caller, Proxy, Refusal, Who
from edgead.line.web.auth.cookies import Cookies, SignedIn
from edgead.line.web.auth.panels import PinLocks, same
from edgead.line.web.auth.rate_limit import FailureLimit
from edgead.line.web.auth.roles import SAFE_METHODS, higher, may, role_needed
from edgead.process.log_rate import limited_log

logger = logging.getLogger(__name__)

_MAX_REFUSALS, _REFUSALS_WITHIN_S = 20, 60.0
CSRF_HEADER = "x-csrf-token"
_ANYBODY = Who("engineer", "open")


class Guard:
    """Guard that identifies callers, refuses requests beyond their role, and slows down guessing.

    Raises
    ------
    SettingsError
        The section names a file of users, and the package for hashes is missing.
    """

    def __init__(self, section: HttpSection):
        self.is_open = section.is_open
        self.has_tokens = bool(section.token or section.tokens or section.panels)
        self.has_users, self.has_proxy = section.users is not None, section.proxy is not None
        self.failures = FailureLimit(most=section.failures_most, within_s=section.failures_within_s)
        self._accounts = Accounts(section.users)
        self.cookies = Cookies(section, self._accounts)
        self._section = section
        self._proxy = Proxy(section.proxy) if section.proxy else None
        self._locks = PinLocks()
        self._key = secrets.token_bytes(32)
        # Guessing must not fill the disk.
        self._refusals = limited_log(__name__, _MAX_REFUSALS, _REFUSALS_WITHIN_S)

    def admit(self, request: HTTPConnection) -> SignedIn:
        """Return the caller's identity if the role suffices for the request.

        Raises
        ------
        Refusal
            401 for an unknown caller or a wrong token, 403 for a request beyond the role, for a change without
            the session's CSRF token, and for untrusted headers of a proxy, 429 after too many failures.
        """
        found = self.find(request)
        if found is None:
            raise Refusal(401, "sign in, or send Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        method, who = request.scope["method"], found.who
        if found.csrf is not None and method not in SAFE_METHODS:
            if not same(request.headers.get(CSRF_HEADER, ""), found.csrf):
                raise Refusal(403, f"the header {CSRF_HEADER} is not that of this session: load the page again")
        needed = role_needed(method, request.scope["path"])
        if not may(who.role, needed):
            unlock = ": unlock the panel with a PIN" if who.panel and who.way == "panel" else ""
            raise Refusal(403, f"this needs the role {needed}, {_shown(who)} has the role {who.role}{unlock}")
        return found

    def find(self, request: HTTPConnection) -> SignedIn | None:
        """Find the caller's identity; None if there is none.

        Raises
        ------
        Refusal
            401 or 429 for a wrong token, 403 for untrusted headers of a proxy.
        """
        if self.is_open:
            return SignedIn(_ANYBODY)
        # Before the token: a proxy may pass on one of its own.
        if self._proxy is not None and (who := self._proxy.find(request)):
            return SignedIn(who, hmac.new(self._key, who.name.encode(), hashlib.sha256).hexdigest())
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return SignedIn(self._program(given.strip(), client_address(request)))
        return self.cookies.find(request)

    def holds(self, request: HTTPConnection) -> bool:
        """Return whether the caller of an earlier request would still be admitted."""
        try:
            return self.find(request) is not None
        except Refusal:
            return False

    def _program(self, given: str, address: str) -> Who:
        who = self.by_token(given, address)
        if who.way == "panel":
            raise Refusal(401, "this is the token of a panel: it signs in on the page", {"WWW-Authenticate": "Bearer"})
        return who

    def by_token(self, given: str, address: str) -> Who:
        """Find the owner of a token, in a time that reveals nothing about the valid tokens.

        A right token is always admitted: behind a proxy all callers share an address, and any of them could
        otherwise lock out the operator.

        Raises
        ------
        Refusal
            401 for a wrong token, 429 for a wrong token after too many failures.
        """
        section, found = self._section, None
        if section.token is not None and same(given, section.token.get_secret_value()):
            found = Who("engineer", "token")
        for name, program in section.tokens.items():
            if same(given, program.token.get_secret_value()):
                found = Who(program.role, "token", name)
        for name, panel in section.panels.items():
            if same(given, panel.token.get_secret_value()):
                found = self.cookies.as_panel(name)
        if found is None:
            self._must_wait(address, "tokens")
            self.failures.add(address)
            self._log_refusal("a wrong token", address)
            raise Refusal(401, "the token is wrong", {"WWW-Authenticate": "Bearer"})
        return found

    def by_password(self, name: str, password: str, address: str) -> Who:
        """Find the person who signs in; after too many failures, check no password from the address.

        Raises
        ------
        Refusal
            401 for a wrong name or password, 429 after too many.
        """
        self._must_wait(address, "passwords")
        found = self._accounts.by_password(name, password)
        if found is None:
            self.failures.add(address)
            known = self._accounts.find(name)  # other names are not quoted: a password may have been typed there
            self._log_refusal(f"a wrong password for {known[0]}" if known else "a name that nobody has", address)
            raise Refusal(401, "the name or the password is wrong", {"WWW-Authenticate": "Bearer"})
        return Who(found[1].role, "password", found[0], account=found[1])

    def by_pin(self, panel: str, name: str, pin: str) -> Who:
        """Find the person who raises a panel's role.

        Raises
        ------
        Refusal
            403 for a wrong name or PIN, 429 while the person or the panel is locked.
        """
        known = self._accounts.find(name)
        keys = [("panel", panel), *([("person", same_name(known[0]))] if known else [])]
        wait_s = self._locks.wait_s(*keys)
        if wait_s > 0:
            raise _later("too many wrong PINs", wait_s)
        found = self._accounts.by_pin(name, pin)
        if found is None:
            self._locks.failed(*keys)
            raise Refusal(403, "the name or the PIN is wrong")
        self._locks.passed(*keys)
        role = higher(found[1].role, self._section.panels[panel].role)
        return Who(role, "pin", found[0], panel, found[1])

    def _must_wait(self, address: str, what: str) -> None:
        wait_s = self.failures.wait_s(address)
        if wait_s > 0:
            self._log_refusal(f"too many wrong {what}", address)
            raise _later(f"too many wrong {what}", wait_s)

    def _log_refusal(self, what: str, address: str) -> None:
        self._refusals.warning("sign-in refused: %s, from %s", what, address, extra={"address": address})


def log_session(what: str, who: Who, address: str) -> None:
    """Log the begin or end of a session; changes are in the audit."""
    text = f"{what}: {who.name or who.panel or 'a token'} ({who.way}, {who.role}), from {address}"
    logger.info(text, extra={"address": address, "by": who.name or who.panel})


def caller_of(request: HTTPConnection) -> Caller:
    """Return the identity and address of an admitted request's sender."""
    return Caller(request.scope["signed_in"].who, client_address(request))


def client_address(request: HTTPConnection) -> str:
    return request.client.host if request.client else "unknown"


def _shown(who: Who) -> str:
    return who.name or (f"the panel {who.panel}" if who.panel else "this token")


def _later(reason: str, wait_s: float) -> Refusal:
    retry = str(int(wait_s) + 1)
    return Refusal(429, f"{reason}: try again in {retry} s", {"Retry-After": retry})
