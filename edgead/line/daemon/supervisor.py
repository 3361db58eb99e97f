"""Supervisor of work in its own thread: restarts the work when it fails, within a budget."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from edgead.line.site.schema import LimitsSection

logger = logging.getLogger(__name__)

# Long enough that a pipeline which fails at once does not take the processor from others.
_PAUSE_S = 0.2
# For a thread's last report after its budget is used up; a database is waited for at most half as long.
_LAST_WORDS_S = 10.0


class RestartBudget:
    """Budget of restarts within a sliding time, by the monotonic clock, which nobody can set."""

    def __init__(self, limits: LimitsSection):
        self.limits = limits
        self._spent_s: deque[float] = deque()

    def spend(self) -> bool:
        """Take one restart from the budget; return False if none is left."""
        now_s = time.monotonic()
        while self._spent_s and now_s - self._spent_s[0] > self.limits.restarts_within_s:
            self._spent_s.popleft()
        if len(self._spent_s) >= self.limits.restarts:
            return False
        self._spent_s.append(now_s)
        return True


class Supervisor:
    """Supervisor of a thread that runs `work` until it returns, and runs it again if it fails.

    `name`: name of the thread.
    `work`: called with the event that asks it to stop; called again after an exception.
    `died`: called with the exception, and whether there will be a restart.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[threading.Event], None],
        died: Callable[[Exception, bool], None],
        budget: RestartBudget,
    ):
        self.restarts = 0
        self.budget = budget
        self._name, self._work, self._died = name, work, died
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._end: Literal["returned", "used up"] | None = None  # of the work; None if the thread has died silently

    @property
    def used_up(self) -> bool:
        """Whether the work has failed too often: only `start` begins it again."""
        return self._end == "used up"

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def lost(self) -> bool:
        """Whether the thread has ended silently: `died` was not called, and only `revive` restarts the work."""
        return self._thread is not None and not (self.alive or self._end or self._stop.is_set())

    def start(self) -> None:
        """Start the thread, also after the budget was used up; do nothing if the work goes on or has returned."""
        with self._starting:
            if self.used_up:
                self.join(_LAST_WORDS_S)
            if self.alive or self._stop.is_set() or self._end == "returned":
                return
            self._end = None
            # A daemon: a call that hangs in a driver or an engine must not keep the process alive.
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()
            self._thread = thread  # only now: before, it would count as a lost thread

    def revive(self) -> None:
        """Start a lost thread again, within the budget; call this regularly, from one thread."""
        if not self._starting.acquire(blocking=False):
            return  # while a start is between its reset and its thread, the state looks like that of a lost thread
        try:
            if not self.lost:
                return
            again = self.budget.spend()
            if not again:
                self._end = "used up"
        finally:
            self._starting.release()
        self._tell(RuntimeError("the thread has ended, see the log"), again)
        if again:
            self.restarts += 1
            self.start()

    def stop(self) -> None:
        """Ask the work to end; `join` waits for the end."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; return False if it did not end in time."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, timeout_s))
        return not self.alive

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._work(self._stop)
                self._end = "returned"
                return
            except Exception as error:  # noqa: BLE001  whatever it was, the others run on, and the reason is reported
                again = self.budget.spend()
                if not again:
                    self._end = "used up"
                self._tell(error, again)
                if not again:
                    return
                self.restarts += 1
                self._stop.wait(_PAUSE_S)

    def _tell(self, error: Exception, again: bool) -> None:
        try:
            self._died(error, again)
        except Exception:  # noqa: BLE001  a failure of the report must not end the supervision
            logger.exception("%s: its end cannot be dealt with", self._name)
