"""The row of the grouped search: one image's patches against those of a hundred others, the nearest of each."""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np

from benchmarks.features import Array
from benchmarks.interleave import interleave
from benchmarks.opponents import with_blas
from benchmarks.results import FP32, OURS, Row, Target
from edgead.kernels import GroupedPatches

IMAGES = 100
CHECKED = 8  # groups that are measured in float64, which takes seconds each


def grouped_row(patches: Array, rounds: int) -> Row:
    """Verify and time edgead beside as many searches of faiss as there are images.

    Parameters
    ----------
    patches : ndarray of shape (images, patches of an image, d), float32
        More than a hundred images; the first is the query.
    rounds : int
    """
    queries, groups = np.ascontiguousarray(patches[0]), np.ascontiguousarray(patches[1 : IMAGES + 1])
    _, size, d = groups.shape
    bank = groups.reshape(-1, d)
    ours = {
        name: GroupedPatches(bank, [size] * IMAGES, prescan=prescan) for name, prescan in ((OURS, True), (FP32, False))
    }
    indexes = []
    for rows in groups:
        index = faiss.IndexFlatL2(d)
        index.add(rows)
        indexes.append(index)
    calls: dict[str, Callable[[], object]] = {
        name: (lambda index=index: index.search(queries)) for name, index in ours.items()
    }
    calls["faiss"] = lambda: [index.search(queries, 1)[0] for index in indexes]
    calls["faiss BLAS"] = lambda: [with_blas(index, queries, 1)[0] for index in indexes]
    for name, index in ours.items():
        _verify(name, index.search(queries), queries, groups)
    work = f"nearest of each of {IMAGES} images, {size} x {d} against {IMAGES} x {size}"
    return Row("grouped", work, interleave(calls, rounds), (Target("faiss", 5), Target("faiss BLAS", 5)))


def _verify(name: str, distance: Array, queries: Array, groups: Array) -> None:
    """Stop unless some of the distances are those of float64 differences."""
    for number in range(0, len(groups), len(groups) // CHECKED):
        rows = groups[number].astype(np.float64)
        true = np.array([np.sqrt(((rows - query) ** 2).sum(axis=1).min()) for query in queries.astype(np.float64)])
        off = np.abs(distance[:, number] - true) > 2e-7 * true
        if off.any():
            raise SystemExit(f"{name}: {off.sum()} distances to group {number} differ; nothing wrong is timed")
