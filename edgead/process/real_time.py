"""Scheduling of the threads of one pipeline: their cores, and real-time priority."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead.errors import SettingsError

KERNEL_THREADS, OPENCV_THREADS = "edgead-kernel", "edgead-opencv"
"""Names of the threads that all pipelines share; see `csrc/shared/threads.cpp` and `start_opencv_threads`."""
_TASKS = Path("/proc/self/task")
_OWN_NAME = Path("/proc/thread-self/comm")


def set_affinity(cores: Sequence[int]) -> None:
    """Bind this process, and the threads that it starts from now on, to some cores.

    Raises SettingsError: a core does not exist, this process may not use it, or the system is not Linux.
    """
    _check_system("affinity", "sched_setaffinity")
    allowed = sorted(os.sched_getaffinity(0))
    if not cores or not set(cores) <= set(allowed):
        raise SettingsError(f"affinity {','.join(map(str, cores))}: this process may use {','.join(map(str, allowed))}")
    os.sched_setaffinity(0, cores)


def set_fifo(priority: int) -> None:
    """Run this thread, and threads that it starts from now on, with a real-time priority (SCHED_FIFO).

    Raises SettingsError: the priority does not exist, this process may not have it, or the system is not Linux.
    """
    _check_system("fifo", "sched_setscheduler")
    low, high = os.sched_get_priority_min(os.SCHED_FIFO), os.sched_get_priority_max(os.SCHED_FIFO)
    if not low <= priority <= high:
        raise SettingsError(f"SCHED_FIFO has priorities from {low} to {high}, found {priority}")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        raise SettingsError(
            "SCHED_FIFO is not permitted: run as root, or allow it by `ulimit -r` (LimitRTPRIO= of a systemd unit)"
        ) from None


def _check_system(option: str, function: str) -> None:
    if not hasattr(os, function):
        raise SettingsError(f"{option} needs Linux, found {sys.platform}: leave it out")


@dataclass(frozen=True, slots=True)
class Scheduling:
    """Cores and priority of a thread.

    `priority`: priority of SCHED_FIFO, 1 to 99; None leaves it to the system's usual scheduler.
    `cores`: cores to run on; empty for all that this process may use.
    """

    priority: int | None = None
    cores: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return self.priority is not None or bool(self.cores)

    def beside(self, other: Scheduling) -> Scheduling:
        """Combine two schedulings for a shared thread: the higher priority, and the cores of both, or all."""
        cores = sorted({*self.cores, *other.cores}) if self.cores and other.cores else ()
        return Scheduling(max(self.priority or 0, other.priority or 0) or None, tuple(cores))

    def take(self) -> None:
        """Apply this to the calling thread, and to threads that it starts from now on.

        Raises SettingsError: see `set_affinity` and `set_fifo`; cores that were set before a failure stay.
        """
        if self.cores:
            set_affinity(self.cores)
        if self.priority is not None:
            set_fifo(self.priority)

    def give_kernels(self) -> None:
        """Apply these settings to the threads that kernels and OpenCV have started so far; all pipelines share them.

        A refusal by the system is ignored here: `take` has reported it for the calling thread before.
        """
        for thread in _shared_threads():
            self.give(thread)

    def give(self, thread: int = 0) -> None:
        """Apply this to a thread of this process, by its kernel id; by default the calling one.

        A thread stays as it is if the system refuses the change, if it has ended, or outside Linux.
        """
        if sys.platform != "linux":
            return
        policy = os.SCHED_OTHER if self.priority is None else os.SCHED_FIFO
        there = os.sched_getaffinity(os.getpid())
        cores = frozenset(there.intersection(self.cores) or there)  # a core that is not there is an error of its own
        with suppress(OSError):
            Scheduled(policy, self.priority or 0, cores).give(thread)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Apply this to the calling thread and the kernels' threads while the block runs.

        Raises SettingsError: see `take`; the block does not run then.
        """
        if not self:
            yield
            return
        before = current() if sys.platform == "linux" else None
        try:
            self.take()
            self.give_kernels()
            yield
        finally:
            if before is not None:
                for thread in (0, *_shared_threads()):
                    with suppress(ProcessLookupError, PermissionError):  # a refused setting was not applied
                        before.give(thread)


USUAL = Scheduling()
"""The system's usual scheduling."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """Policy, priority and cores of a thread, as the system reports them."""

    policy: int
    priority: int
    cores: frozenset[int]

    def give(self, thread: int) -> None:
        """Apply this to a thread of this process, by its kernel id; 0 is the calling one.

        Raises ProcessLookupError: the thread has ended.
        Raises PermissionError: the system refuses the change.
        """
        os.sched_setscheduler(thread, self.policy, os.sched_param(self.priority))
        os.sched_setaffinity(thread, self.cores)


def current() -> Scheduled:
    """Return how the calling thread is scheduled; on Linux only."""
    return Scheduled(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, frozenset(os.sched_getaffinity(0)))


@contextmanager
def called(name: str) -> Iterator[None]:
    """Name the calling thread while the block runs, by at most 15 bytes: threads that it starts inherit the name.

    Outside Linux this does nothing.
    """
    try:
        before = _OWN_NAME.read_text().strip()
        _OWN_NAME.write_text(name)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        _OWN_NAME.write_text(before)


def start_opencv_threads() -> None:
    """Make OpenCV start its threads now, under a name by which `threads_named` finds them."""
    with called(OPENCV_THREADS):
        cv2.resize(np.zeros((2048, 2048), np.uint8), (1024, 1024), interpolation=cv2.INTER_AREA)


def _shared_threads() -> list[int]:
    return [*threads_named(KERNEL_THREADS), *threads_named(OPENCV_THREADS)]


def threads_named(name: str) -> list[int]:
    """List the kernel ids of this process's threads with a name of at most 15 bytes; empty outside Linux."""
    found = []
    for folder in _TASKS.iterdir() if _TASKS.is_dir() else ():
        with suppress(OSError):  # ended meanwhile
            if (folder / "comm").read_text().strip() == name:
                found.append(int(folder.name))
    return found
