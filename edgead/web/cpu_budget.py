"""Processor budget of the page: inspection shares its cores, and Python's lock, with whoever asks."""

from __future__ import annotations

import asyncio
import selectors
import time

# Of one core, on average. A page that is open takes about a hundredth.
_SHARE = 0.1
# What may be taken at once after a rest: loading the page takes a tenth of it.
_BURST_S = 0.3
# Longest rest between two looks at the connections, for the sake of the probes.
_REST_S = 0.5


class PacedSelector(selectors.DefaultSelector):
    """Lets the event loop of this thread rest when its work took more than its share; clients wait meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._left_s = _BURST_S
        self._worked_s, self._at_s = time.thread_time(), time.monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        worked_s, at_s = time.thread_time(), time.monotonic()
        self._left_s = min(_BURST_S, self._left_s + (at_s - self._at_s) * _SHARE) - (worked_s - self._worked_s)
        self._worked_s, self._at_s = worked_s, at_s
        if self._left_s < 0:
            time.sleep(min(-self._left_s / _SHARE, _REST_S))
        return super().select(timeout)


def paced_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop for the thread that calls, and for no other."""
    return asyncio.SelectorEventLoop(PacedSelector())
