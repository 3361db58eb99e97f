"""Timing contenders fairly in one process: round-robin, hot, beside no other one's spinning threads.

Libraries keep their threads spinning after a call, so that the next one starts sooner: on two cores we measured
7 ms for OpenMP (faiss, torch), 36 ms for ONNX Runtime and over 60 ms for OpenBLAS (NumPy). Whoever runs next would
pay for that. Switching it off (OMP_WAIT_POLICY=passive) would change the contenders. So every one keeps its
defaults, and before each sample we sleep until this process uses no CPU any more. After such a sleep the kernel may
put two threads of a library on one core for longer than a sample lasts (we saw it with torch and edgead), so the
calling thread is bound to one core and all others to the rest. Then comes a call that is not timed, so that all
are measured with warm caches and awake threads, and then the sample.
"""

from __future__ import annotations

import gc
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MIN_SAMPLE_MS = 2.0  # shorter calls are repeated within a sample
QUIET_STEP_S = 0.025  # the clock of what other threads used moves only with the kernel's ticks, 1 to 10 ms
QUIET_SHARE = 0.25  # of one core; a single spinning thread uses all of it
QUIET_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds a call over the rounds; percentiles are samples that were measured."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    rounds: int

    @classmethod
    def of(cls, samples_ms: list[float]) -> Timing:
        """Summarise samples; no outlier is removed."""
        p10, median, p90 = np.percentile(samples_ms, (10, 50, 90), method="inverted_cdf")
        return cls(float(median), float(p10), float(p90), len(samples_ms))


def interleave(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time all calls round-robin.

    Parameters
    ----------
    calls : mapping of name to callable
    rounds : int
        Samples of each. Every round starts with the next contender, so that none always follows the same one.

    Returns
    -------
    dict of name to Timing, in the order of `calls`
    """
    names = list(calls)
    samples: dict[str, list[float]] = {name: [] for name in names}
    repeats = {name: _repeats(call) for name, call in calls.items()}
    # Not earlier: a thread that is made now would inherit the calling thread's single core.
    with _no_garbage_collection(), _threads_apart():
        for number in range(rounds):
            for place in range(len(names)):
                name = names[(number + place) % len(names)]
                samples[name].append(_sample_ms(calls[name], repeats[name]))
    return {name: Timing.of(values) for name, values in samples.items()}


def wait_until_quiet() -> None:
    """Sleep until the threads of this process have stopped spinning."""
    end = time.perf_counter() + QUIET_LIMIT_S
    while time.perf_counter() < end:
        cpu, wall = time.process_time(), time.perf_counter()
        time.sleep(QUIET_STEP_S)
        if time.process_time() - cpu < QUIET_SHARE * (time.perf_counter() - wall):
            return
    raise SystemExit(
        f"a library's threads still spin {QUIET_LIMIT_S:g} s after its call, which would slow the others: "
        "unset OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME and OPENBLAS_THREAD_TIMEOUT"
    )


def _repeats(call: Callable[[], object]) -> int:
    """Warm up, and see how many calls make a sample that the clock resolves well."""
    for _ in range(2):
        call()
    start = time.perf_counter_ns()
    call()
    return max(1, math.ceil(MIN_SAMPLE_MS * 1e6 / max(1, time.perf_counter_ns() - start)))


def _sample_ms(call: Callable[[], object], repeats: int) -> float:
    wait_until_quiet()
    call()
    start = time.perf_counter_ns()
    for _ in range(repeats):
        call()
    return (time.perf_counter_ns() - start) / repeats / 1e6


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _threads_apart() -> Iterator[None]:
    """Bind the calling thread to the first core and all others of this process to the rest, where Linux can."""
    tasks = Path("/proc/self/task")
    cores = sorted(os.sched_getaffinity(0)) if tasks.is_dir() else []
    if len(cores) < 2:
        yield
        return
    others = [int(task.name) for task in tasks.iterdir() if int(task.name) != threading.get_native_id()]
    try:
        os.sched_setaffinity(0, cores[:1])
        _bind(others, cores[1:])
        yield
    finally:
        os.sched_setaffinity(0, cores)
        _bind(others, cores)


def _bind(threads: list[int], cores: list[int]) -> None:
    for thread in threads:
        with suppress(ProcessLookupError):  # ended meanwhile
            os.sched_setaffinity(thread, cores)
