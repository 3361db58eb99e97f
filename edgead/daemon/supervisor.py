"""Work in a thread of its own that is started again when it fails, within a budget."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from edgead.config import LimitsSection

# Long enough that a pipeline which fails at once does not take the processor from the others.
_PAUSE_S = 0.2


class RestartBudget:
    """Allows so many restarts within a sliding time; the monotonic clock counts, which nobody sets back."""

    def __init__(self, limits: LimitsSection):
        self.limits = limits
        self._spent_s: deque[float] = deque()

    def spend(self) -> bool:
        """Take one restart from the budget; False when it is used up."""
        now_s = time.monotonic()
        while self._spent_s and now_s - self._spent_s[0] > self.limits.restarts_within_s:
            self._spent_s.popleft()
        if len(self._spent_s) >= self.limits.restarts:
            return False
        self._spent_s.append(now_s)
        return True


class Supervisor:
    """Runs `work` until it returns; a failure of one supervisor's work is nothing to the others.

    Parameters
    ----------
    name : str
        Of the thread.
    work : callable
        Called with the event that tells it to stop; called again when it raised.
    died : callable
        Told the exception, and whether there will be a restart.
    budget : RestartBudget
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

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, also again after the budget was used up; does nothing while it is alive."""
        if not self.alive and not self._stop.is_set():
            # A daemon: what hangs in a driver or an engine must not keep the process alive.
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Tell the work to end; `join` waits for it."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False when it did not come in time."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, timeout_s))
        return not self.alive

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._work(self._stop)
                return
            except Exception as error:  # noqa: BLE001  whatever it was, the others run on and the reason is told
                again = self.budget.spend()
                self._died(error, again)
                if not again:
                    return
                self.restarts += 1
                self._stop.wait(_PAUSE_S)
