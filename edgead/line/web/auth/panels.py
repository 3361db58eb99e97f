"""Panels at the line: cookies that outlive a restart of the daemon, and a limit of wrong PINs."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgead.line.site.http import PanelSection

_MAX_CLOSED = 1024
# A panel must wait first: somebody who guesses at one must not lock a person out of all others.
_FREE_TRIES = {"panel": 5, "person": 20}
_FIRST_LOCK_S = 60.0
_LONGEST_LOCK_S = 24 * 3600.0
_FORGOTTEN_S = 2 * _LONGEST_LOCK_S


@dataclass(frozen=True, slots=True)
class Panel:
    """Signed-in panel, with the CSRF token of its cookie."""

    name: str
    csrf: str


class Panels:
    """Cookies of panels: each has a name, an end and a random number, signed with the panel's token.

    The daemon does not store them, so a restart signs no panel out; a new token in the site file signs out all browsers
    that used the old one.
    """

    def __init__(self, sections: Mapping[str, PanelSection], clock: Callable[[], float] = time.time):
        self._sections = sections
        self._clock = clock
        self._closed: OrderedDict[str, None] = OrderedDict()

    def open(self, name: str) -> str:
        """Make the cookie of a panel."""
        ends = int(self._clock() + self._sections[name].days * 86_400)
        content = f"{name}.{ends}.{secrets.token_urlsafe(16)}"
        return f"{content}.{self._seal(name, content)}"

    def find(self, cookie: str | None) -> Panel | None:
        """Return the panel of a cookie; None if its signature is wrong, it has ended, or it was signed out."""
        content, _, seal = (cookie or "").rpartition(".")
        parts = content.split(".")
        if len(parts) != 3 or parts[0] not in self._sections or content in self._closed:
            return None
        if not same(seal, self._seal(parts[0], content)) or int(parts[1]) <= self._clock():
            return None
        return Panel(parts[0], self._seal(parts[0], f"csrf {content}"))

    def close(self, cookie: str | None) -> None:
        """Sign a cookie out, for as long as this process runs."""
        if self.find(cookie):
            self._closed[(cookie or "").rpartition(".")[0]] = None
            if len(self._closed) > _MAX_CLOSED:
                self._closed.popitem(last=False)

    def _seal(self, name: str, content: str) -> str:
        key = self._sections[name].token.get_secret_value().encode()
        return hmac.new(key, f"edgead panel {content}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


class PinLocks:
    """Locks of panels and persons after wrong PINs: after some free tries, each wait is twice as long.

    A right PIN, or two days without a wrong one, resets the count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._failures: Counter[tuple[str, str]] = Counter()
        self._failed_at: dict[tuple[str, str], float] = {}
        self._until: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def wait_s(self, *keys: tuple[str, str]) -> float:
        """Return the seconds until none of these keys (panel, person) is locked; 0 if a PIN may be tried now."""
        with self._lock:
            return max(0.0, *(self._until.get(key, 0.0) - self._clock() for key in keys))

    def failed(self, *keys: tuple[str, str]) -> None:
        """Count a wrong PIN for each of these keys."""
        with self._lock:
            now = self._clock()
            for key in keys:
                if now - self._failed_at.get(key, now) > _FORGOTTEN_S:
                    self._failures.pop(key, None)
                self._failed_at[key] = now
                self._failures[key] += 1
                beyond = self._failures[key] - _FREE_TRIES[key[0]]
                if beyond >= 0:
                    lock_s = min(_FIRST_LOCK_S * 2.0 ** min(beyond, 30), _LONGEST_LOCK_S)
                    self._until[key] = now + lock_s

    def passed(self, *keys: tuple[str, str]) -> None:
        """Reset the count of each of these keys."""
        with self._lock:
            for key in keys:
                self._failures.pop(key, None)
                self._until.pop(key, None)


def same(one: str, other: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
