"""Rate limit of log lines about a fault that repeats, or that anybody on the network can cause."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable


class LogRate(logging.Filter):
    """Filter that passes `most` records within `within_s` seconds; the next one then says how many were left out."""

    def __init__(self, most: int, within_s: float, *, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._most, self._within_s, self._clock = most, within_s, clock
        self._begin_s = clock()
        self._passed = self._left_out = 0
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        with self._lock:
            now_s = self._clock()
            if now_s - self._begin_s >= self._within_s:
                self._begin_s, self._passed = now_s, 0
            if self._passed >= self._most:
                self._left_out += 1
                return False
            self._passed += 1
            left_out, self._left_out = self._left_out, 0
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} records before it were left out)", ()
        return True


def limited_log(name: str, most: int, within_s: float) -> logging.Logger:
    """Make a logger with its own rate limit, whose records go on to the logger `name`.

    It is not registered in `logging`: parts that a reload replaces leave no logger behind, and each part has its own
    limit.
    """
    log = logging.Logger(name)
    log.parent = logging.getLogger(name)
    log.addFilter(LogRate(most, within_s))
    return log
