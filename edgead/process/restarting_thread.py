"""Thread whose work is started again after an unforeseen failure, which is logged."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

_PAUSE_FIRST_S = 0.5
_MAX_PAUSE_S = 10.0
# Long enough that somebody who looks now and then sees it too.
_SHOWN_S = 10.0


class RestartingThread:
    """Thread that runs `work` until it returns; an exception is logged, and `work` called again after a growing pause.

    `name`: name of the thread.
    `work`: called again after a failure, so it must be able to continue from any state.
    """

    def __init__(self, name: str, work: Callable[[], None]):
        self._name, self._work = name, work
        self._failed: tuple[float, str] | None = None
        self._closing = threading.Event()
        # A daemon: what hangs in a driver must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def problem(self) -> str | None:
        """Reason of the last failure of the work; None after ten seconds without a failure."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self._closing.is_set():
            return f'the thread "{self._name}" has died, see the log: restart the daemon'
        if self._failed is None or time.monotonic() - self._failed[0] > _SHOWN_S:
            return None
        return self._failed[1]

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the work to return; it is not started again."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = _PAUSE_FIRST_S
        while True:
            begin_s = time.monotonic()
            try:
                self._work()
            except Exception as error:  # noqa: BLE001  the edge of a thread: its work goes on
                logger.exception('the thread "%s" failed, its work is begun again', self._name)
                self._failed = time.monotonic(), f"the program failed ({type(error).__name__}), see the log"
            else:
                self._closing.set()
                return
            if time.monotonic() - begin_s > _SHOWN_S:
                pause_s = _PAUSE_FIRST_S
            if self._closing.wait(pause_s):
                return
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)
