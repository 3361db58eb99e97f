"""Signals as requests to the main loop, and the time limit of an end."""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)

# For what comes after the draining: the store's last commit, the interpreter's own end.
_GRACE_S = 0.3
# After which the kernel ends a process that cannot do it itself, for something holds the interpreter's lock.
_LAST_S = 0.1


class Requests:
    """What was asked by signals, in its order: "stop" (SIGTERM, SIGINT) or "reload" (SIGHUP).

    Where the draining does not end in time, a thread ends the process with exit code 0, for the end was asked for;
    where that cannot run either, a timer of the kernel does. The second "stop" ends it at once. The store bears that.
    """

    def __init__(self) -> None:
        self.drain_s = 1.0
        self._asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = False

    def next(self, timeout_s: float) -> str | None:
        """Wait for a request; None when none came."""
        try:
            return self._asked.get(timeout=timeout_s)
        except queue.Empty:
            return None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals while the block runs; for the main thread."""
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._reload}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        # Started here: a thread that is started in a handler may wait for a lock that the main thread holds.
        threading.Thread(target=self._end_in_time, name="end", daemon=True).start()
        try:
            yield
        finally:
            self._ends.put("ended")
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            os._exit(128 + number)
        self._stopping = True
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self.drain_s + _GRACE_S + _LAST_S)
        self._ends.put("stop")
        self._asked.put("stop")

    def _end_in_time(self) -> None:
        if self._ends.get() == "ended":
            return
        try:
            self._ends.get(timeout=self.drain_s + _GRACE_S)
        except queue.Empty:
            logger.error("the time to drain is over: ended with what hangs")
            os._exit(0)

    def _reload(self, number: int, frame: FrameType | None) -> None:
        self._asked.put("reload")
