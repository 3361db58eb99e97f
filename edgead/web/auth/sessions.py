"""Sessions of signed-in browsers: opaque cookies, known only to this process, gone when it ends."""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgead.web.auth.callers import Who

_MAX_SESSIONS = 64
_MAX_OF_A_PERSON = 8


@dataclass(frozen=True, slots=True)
class Session:
    """Who is signed in, what the browser must send with requests that change something, and until when it may.

    `used` is when it last asked for something.
    """

    who: Who
    csrf: str
    ends: float
    used: float


class Sessions:
    """A bounded number of sessions, of each person and of all: one more ends the oldest of who has most.

    They end after their lifetime, and before where their browser asks for nothing for so long.
    """

    def __init__(self, *, lifetime_s: float, idle_s: float = math.inf, clock: Callable[[], float] = time.monotonic):
        self.lifetime_s = lifetime_s
        self._idle_s = idle_s
        self._clock = clock
        # Kept by hash: how long a look-up takes shows nothing of the cookies that exist.
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, who: Who) -> str:
        """Begin a session; gives the value of its cookie."""
        cookie = secrets.token_urlsafe(32)
        now = self._clock()
        session = Session(who, secrets.token_urlsafe(32), now + self.lifetime_s, now)
        with self._lock:
            self._sessions[_digest(cookie)] = session
            counts = Counter(_whose(other.who) for other in self._sessions.values())
            # Not of a token, which may be that of a whole plant.
            if who.name and counts[_whose(who)] > _MAX_OF_A_PERSON:
                self._end_oldest(_whose(who))
            elif len(self._sessions) > _MAX_SESSIONS:
                self._end_oldest(counts.most_common(1)[0][0])
        return cookie

    def find(self, cookie: str | None) -> Session | None:
        """Look up the session of a cookie; None where there is none or it has ended."""
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

    def left_s(self, session: Session) -> float:
        """How long a session lasts from now on."""
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
