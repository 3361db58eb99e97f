"""Placement of an engine's worker threads, off the core of the calling thread.

Linux wakes a worker on the core where it went to sleep. If the caller has moved there meanwhile, as it may between two
frames of a camera, both share that core for longer than a frame takes, because the scheduler spreads threads only now
and then; a network then takes twice its time, in most frames of a slow conveyor.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from edgead.process.real_time import Scheduled, called, current, threads_named

Engine = TypeVar("Engine")

# An engine may end an idle thread; a container may forbid the placement of threads.
_GONE_OR_FORBIDDEN = (ProcessLookupError, PermissionError)
_numbers = itertools.count(1)


class Workers:
    """Worker threads of one engine, with their allowed cores.

    `cores`: cores that each thread may use, by its kernel id; empty if unknown.
    """

    def __init__(self, cores: dict[int, set[int]]):
        self.cores = cores
        self._followed: Scheduled | None = None
        self._caller_core: Callable[[], int] = ctypes.CDLL(None).sched_getcpu if cores else lambda: -1

    def follow_caller(self) -> None:
        """Give the workers the caller's priority and cores, except the core that it runs on if there are others.

        Call it before each run: OpenVINO's idle workers reset their placement, and a model that the page loaded is run
        by another thread, that of its pipeline.
        """
        if not self.cores:
            return
        caller = current()
        if caller != self._followed:
            self._follow(caller)
        core = self._caller_core()
        for thread, cores in self.cores.items():
            if cores - {core}:
                with suppress(*_GONE_OR_FORBIDDEN):
                    os.sched_setaffinity(thread, cores - {core})

    def _follow(self, caller: Scheduled) -> None:
        self._followed = caller
        for thread in self.cores:
            with suppress(*_GONE_OR_FORBIDDEN):
                caller.give(thread)
        self.cores = dict.fromkeys(self.cores, set(caller.cores))


def start_workers(start: Callable[[], Engine]) -> tuple[Engine, Workers]:
    """Start an engine and collect the threads that it creates; outside Linux there are none.

    `start`: function that returns the engine; called once, in this thread.
    """
    name = f"edgead-net-{next(_numbers) % 10_000}"
    with called(name):
        engine = start()
    return engine, Workers(_cores_of(threads_named(name)))


def _cores_of(threads: list[int]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    if hasattr(os, "sched_getaffinity"):
        for thread in threads:
            with suppress(ProcessLookupError):
                found[thread] = os.sched_getaffinity(thread)
    return found
