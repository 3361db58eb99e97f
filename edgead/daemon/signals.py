"""Signals as requests to the main loop, and the time limit of an end."""

from __future__ import annotations

import logging
import os
import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)

# For what comes after the draining: the store's last commit, the interpreter's own end.
_GRACE_S = 0.35


class Requests:
    """What was asked by signals, in its order: "stop" (SIGTERM, SIGINT) or "reload" (SIGHUP).

    The first "stop" starts a timer of the kernel which ends the process if the draining does not, whatever hangs
    in a driver; the second one ends it at once. The store bears both.
    """

    def __init__(self) -> None:
        self.drain_s = 1.0
        self._asked: queue.SimpleQueue[str] = queue.SimpleQueue()
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
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            os._exit(128 + number)
        self._stopping = True
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self.drain_s + _GRACE_S)
        self._asked.put("stop")

    def _reload(self, number: int, frame: FrameType | None) -> None:
        self._asked.put("reload")
