"""How long tests wait: limits that end what hangs, and measure nothing, for other work shares the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

MAX_S = 30.0
PROGRAM_S = 90.0  # where a program of its own starts, and loads a model


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + MAX_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


def wait_for(true: Callable[[], Any], what: str) -> Any:
    """Wait until something is so that another program does, and give it."""
    deadline = time.monotonic() + PROGRAM_S
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {PROGRAM_S:g} s in vain for: {what}")


def usual_s(calls: Iterable[Callable[[], Any]]) -> float:
    """Median of the seconds of calls: a wait of each shows, a core that others take now and then does not."""
    durations = []
    for call in calls:
        begin_s = time.perf_counter()
        call()
        durations.append(time.perf_counter() - begin_s)
    return statistics.median(durations)
