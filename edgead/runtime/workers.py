"""An engine's worker threads, kept off the core that the calling thread runs on.

Linux wakes a worker on the core that it fell asleep on. Where the caller has moved there meanwhile, as it does between
two frames of a camera, both share that core for longer than a frame takes, for the scheduler spreads threads only now
and then; a network then takes twice its time, in most frames of a slow conveyor.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

Engine = TypeVar("Engine")

_OWN_NAME = Path("/proc/thread-self/comm")
_numbers = itertools.count(1)


class Workers:
    """Worker threads of one engine, and where they may run.

    Parameters
    ----------
    cores : dict of int to set of int
        Cores that each thread may use, by its kernel id; empty where the system does not say.
    """

    def __init__(self, cores: dict[int, set[int]]):
        self.cores = cores
        self._caller_core: Callable[[], int] = ctypes.CDLL(None).sched_getcpu if cores else lambda: -1

    def keep_off_caller(self) -> None:
        """Leave the calling thread's core to it, where the workers may use others.

        To be called before each run: OpenVINO's workers give back what they were given when they have nothing to do.
        """
        core = self._caller_core()
        for thread, cores in self.cores.items():
            if cores - {core}:
                with suppress(ProcessLookupError):  # an engine may end a thread that it has no work for
                    os.sched_setaffinity(thread, cores - {core})


def start_workers(start: Callable[[], Engine]) -> tuple[Engine, Workers]:
    """Start an engine and gather the threads that it starts; outside Linux there are none.

    Parameters
    ----------
    start : callable
        Called once, in this thread; gives the engine.
    """
    try:
        before = _OWN_NAME.read_text().strip()
        # A thread inherits the name of the one that starts it; fifteen bytes are all that a name has.
        name = f"edgead-net-{next(_numbers) % 10_000}"
        _OWN_NAME.write_text(name)
    except OSError:
        return start(), Workers({})
    try:
        engine = start()
    finally:
        _OWN_NAME.write_text(before)
    return engine, Workers(_threads_named(name))


def _threads_named(name: str) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    if not hasattr(os, "sched_getaffinity"):
        return found
    for folder in Path("/proc/self/task").iterdir():
        try:
            if (folder / "comm").read_text().strip() == name:
                found[int(folder.name)] = os.sched_getaffinity(int(folder.name))
        except OSError:
            continue  # ended meanwhile
    return found
