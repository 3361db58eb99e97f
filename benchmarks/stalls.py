"""How often and how long the machine itself stands still: a sleeper on each core, before all else, that wakes late.

What a hypervisor takes away is missing from every program's latency, whatever its priority, and no clock of the
virtual machine names it at the time.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from edgead.errors import SettingsError
from edgead.process.real_time import set_affinity, set_fifo

_STEP_S = 0.005
_STALL_S = 0.010
"""Later than this no sleeper of the highest priority wakes on a machine that runs."""


@dataclass(slots=True)
class Stalls:
    """Milliseconds of each stall, over all cores, once the block has ended; `watched` where that was permitted."""

    ms: list[float] = field(default_factory=list)
    watched: bool = True

    def __str__(self) -> str:
        if not self.watched:
            return "not watched: SCHED_FIFO is not permitted"
        return f"still {len(self.ms)} x, at most {max(self.ms, default=0.0):.0f} ms"


@contextmanager
def watched_stalls() -> Iterator[Stalls]:
    """Watch while the block runs, where the system permits the highest priority of SCHED_FIFO."""
    context = multiprocessing.get_context("spawn")
    over, said = context.Event(), context.SimpleQueue()
    cores = sorted(os.sched_getaffinity(0))
    sleepers = [context.Process(target=_sleep, args=(core, over, said), daemon=True) for core in cores]
    for sleeper in sleepers:
        sleeper.start()
    stalls = Stalls()
    try:
        yield stalls
    finally:
        over.set()
        for sleeper in sleepers:
            found = said.get()
            stalls.watched = stalls.watched and found is not None
            stalls.ms.extend(found or ())
            sleeper.join()


def _sleep(core: int, over: Any, said: Any) -> None:
    set_affinity([core])
    try:
        set_fifo(os.sched_get_priority_max(os.SCHED_FIFO))
    except SettingsError:
        said.put(None)
        return
    stalls: list[float] = []
    slept_s = time.monotonic()
    while not over.is_set():
        time.sleep(_STEP_S)
        woke_s = time.monotonic()
        if woke_s - slept_s - _STEP_S > _STALL_S:
            stalls.append((woke_s - slept_s - _STEP_S) * 1e3)
        slept_s = woke_s
    said.put(stalls)
