"""Reloads beside the main loop, so that a slow file, disk or model does not stop the watchdog's signals."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edgead.process.restarting_thread import RestartingThread

logger = logging.getLogger(__name__)


class Reloading:
    """One reload at a time, in a thread; what is asked for meanwhile is one reload after it.

    Parameters
    ----------
    reload : callable
    """

    def __init__(self, reload: Callable[[], None]):
        self._reload = reload
        self._asked, self._closing = threading.Event(), False
        self._since_s: float | None = None
        self._thread = RestartingThread("reload", self._run)

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        """Want a reload; never waits."""
        since_s = self._since_s
        if since_s is not None:
            logger.warning("a reload is under way since %.1f s: this one comes after it", time.monotonic() - since_s)
        self._asked.set()

    def close(self, within_s: float) -> None:
        """Begin no further reload, and wait for the one under way."""
        self._closing = True
        self._asked.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        while self._asked.wait() and not self._closing:
            self._asked.clear()
            self._since_s = time.monotonic()
            try:
                self._reload()
            finally:
                self._since_s = None
