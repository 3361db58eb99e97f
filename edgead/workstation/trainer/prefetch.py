"""Prefetching of images for the next training steps, while the accelerator runs the present one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

KEPT_BYTES = 2**29
"""Size of the cache of images: 2,730 images of 256 x 256 pixels."""
AHEAD = 4
"""Number of steps that every thread prepares in advance."""


class Subset(Sequence[np.ndarray]):
    """Subset of images by index, read on access."""

    def __init__(self, images: Sequence[np.ndarray], indices: np.ndarray):
        self._images, self._indices = images, indices.tolist()

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, number: int) -> np.ndarray:  # type: ignore[override]
        return self._images[self._indices[number]]


Made = TypeVar("Made")


class KeptImages(Sequence[np.ndarray]):
    """Cache of images after their first read, as many as fit into `most_bytes`.

    Several threads may read; two that request the same image at once both read it.
    """

    def __init__(self, images: Sequence[np.ndarray], most_bytes: int = KEPT_BYTES):
        self._images = images
        self._kept: dict[int, np.ndarray] = {}
        self._room = most_bytes

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        number = int(index)
        image = self._kept.get(number)
        if image is None:
            image = self._images[number]
            if image.nbytes <= self._room:
                self._room -= image.nbytes
                self._kept[number] = image
        return image


class Prefetcher(Generic[Made]):
    """Prefetcher of `make`'s results for consecutive step numbers, computed by threads in advance.

    Use it as a context: leaving it ends the threads. An error of `make` is raised when its number is requested.

    `make`: function of the number alone; called from several threads at once.
    `stop`: number of steps; nothing is made for later ones.
    `threads`: number of threads; 0 makes each result on request, for training that needs all cores itself.
    """

    def __init__(self, make: Callable[[int], Made], stop: int, *, threads: int):
        self._make = make
        self._stop = stop
        self._depth = AHEAD * threads
        self._next = 0
        self._coming: dict[int, Future[Made]] = {}
        self._executor = ThreadPoolExecutor(threads, "edgead-images") if threads else None

    def __enter__(self) -> Prefetcher[Made]:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def __call__(self, number: int) -> Made:
        if self._executor is None:
            return self._make(number)
        for later in range(max(self._next, number), min(number + self._depth, self._stop)):
            self._coming[later] = self._executor.submit(self._make, later)
            self._next = later + 1
        return self._coming.pop(number).result()
