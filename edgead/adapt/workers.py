"""Workers: several runtimes or detectors that share the cores, for one image each at a time.

Small convolutions gain little by a second thread; two images at once take four fifths of the time on two cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from edgead import kernels

MOST_WORKERS = 4

W = TypeVar("W")
T = TypeVar("T")
R = TypeVar("R")


def share_cores(items: int) -> list[int]:
    """Return the threads of each worker: one worker per core and item, at most `MOST_WORKERS` workers."""
    count = max(1, min(MOST_WORKERS, kernels.threads(), items))
    return [(kernels.threads() + number) // count for number in range(count)]


def in_order(workers: Sequence[W], use: Callable[[W, T], R], items: Iterable[T]) -> Iterator[R]:
    """Process items with workers, each worker one item at a time.

    Yields
    ------
    R
        Results in the order of the items; at most twice as many as workers are computed ahead. An exception is raised
        in the place of its item's result, and ends the iteration.
    """
    free: SimpleQueue[W] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def use_one(item: T) -> R:
        worker = free.get()
        try:
            return use(worker, item)
        finally:
            free.put(worker)

    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(len(workers)) as pool:
        try:
            for item in items:
                if len(waiting) == 2 * len(workers):
                    yield waiting.popleft().result()
                waiting.append(pool.submit(use_one, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
