"""Rows of the images: a camera's frame shrunk to a network's input."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from benchmarks.interleave import interleave
from benchmarks.results import OURS, Row
from edgead import kernels

TOLERANCE = 1e-3  # of the sums up to an edge, and of floats that cv2 adds up
SIZES = (((3000, 4096), (256, 256)), ((1944, 2592), (256, 256)), ((1080, 1920), (256, 256)))


def image_rows(rounds: int) -> Iterator[Row]:
    """Verify and time frames of noise: the work is the same whatever they show."""
    for shape, size in SIZES:
        image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        ours, theirs = (np.empty((*size, 3), np.uint8) for _ in range(2))
        calls = {
            OURS: lambda image=image, size=size, out=ours: kernels.shrink(image, size, out),
            "cv2": lambda image=image, size=size, out=theirs: cv2.resize(
                image, size[::-1], dst=out, interpolation=cv2.INTER_AREA
            ),
        }
        work = f"shrink {shape[1]} x {shape[0]} -> {size[1]} x {size[0]}"
        truth = _mean(_mean(image.astype(np.float64), size[0]).swapaxes(0, 1), size[1]).swapaxes(0, 1)
        for name, call in calls.items():
            if np.abs(call() - truth).max() > 0.5 + TOLERANCE:
                raise SystemExit(f"{work}: {name} is off by more than its rounding; nothing wrong is timed")
        yield Row("images", work, interleave(calls, rounds), ())


def _mean(cells: np.ndarray, count: int) -> np.ndarray:
    """The mean of the rows that each of `count` rows covers: differences of the sums up to each edge."""
    sums = np.concatenate([np.zeros((1, *cells.shape[1:])), cells.cumsum(axis=0)])
    edges = np.arange(count + 1) * len(cells) / count
    whole = edges.astype(int)
    up_to = sums[whole] + (edges - whole)[:, None, None] * cells[np.minimum(whole, len(cells) - 1)]
    return np.diff(up_to, axis=0) * count / len(cells)
