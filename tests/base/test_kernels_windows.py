"""WindowSearch on every backend and instruction set level, against float64 distances of every patch with its window.

The distance is float64's rounded to float32. Levels sum in different orders, with a relative error of (d + 3) 2^-53 of
the square: two results are equal, or neighbours where the float64 distance lies that near to the middle of them.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgead import kernels
from edgead.kernels import WindowSearch

ALL = [*(f"cpu:{isa}" for isa in kernels.available_isas()), "numpy"]


def plain(parts, reach, features, places):
    """Both distances in float64, patch by patch."""
    there, back = np.full(len(features), np.inf), np.full(parts.shape[:3], np.inf)
    exact = parts.astype(np.float64)
    for i, (feature, (row, column)) in enumerate(zip(features, places, strict=True)):
        window = (
            slice(None),
            slice(max(0, row - reach), row + reach + 1),
            slice(max(0, column - reach), column + reach + 1),
        )
        distances = np.linalg.norm(exact[window] - feature, axis=-1)
        there[i] = distances.min()
        back[window] = np.minimum(back[window], distances)
    return there, back.min(axis=0)[places[:, 0], places[:, 1]]


def assert_rounded(found, exact):
    np.testing.assert_array_max_ulp(found, exact.astype(np.float32), maxulp=1)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize(
    ("count", "grid", "d", "reach"),
    [(1, (1, 1), 1, 0), (1, (5, 7), 3, 16), (3, (9, 4), 17, 2), (2, (12, 13), 48, 3), (16, (6, 6), 33, 1)],
)
def test_distances_are_exact(backend, count, grid, d, reach):
    rng = np.random.default_rng(count)
    parts = rng.standard_normal((count, *grid, d)).astype(np.float32) * 100
    features = rng.standard_normal((150, d)).astype(np.float32) * 100
    places = rng.integers(0, grid, (150, 2), dtype=np.int32)
    found = WindowSearch(parts, reach, backend=backend).search(features, places)
    for ours, exact in zip(found, plain(parts, reach, features, places), strict=True):
        assert ours.dtype == np.float32
        assert_rounded(ours, exact)


@pytest.mark.parametrize("backend", ALL)
def test_threads_change_nothing(backend):
    rng = np.random.default_rng(1)
    parts = rng.standard_normal((2, 20, 20, 8)).astype(np.float32)
    places = np.stack(np.mgrid[:20, :20], axis=-1).reshape(-1, 2).astype(np.int32)
    features = np.ascontiguousarray(rng.permutation(parts[0].reshape(-1, 8)))
    search = WindowSearch(parts, 2, backend=backend)
    before = kernels.threads()
    found = []
    try:
        for threads in (1, 5):
            kernels.set_threads(threads)
            found.append(search.search(features, places))
    finally:
        kernels.set_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    same = search.search(np.ascontiguousarray(parts[1].reshape(-1, 8)), places)
    assert not np.any(same)


@pytest.mark.parametrize("backend", ALL)
def test_no_patch_is_none(backend):
    search = WindowSearch(np.ones((1, 2, 2, 3), np.float32), 1, backend=backend)
    there, back = search.search(np.empty((0, 3), np.float32), np.empty((0, 2), np.int32))
    assert there.shape == back.shape == (0,)


PARTS = np.ones((1, 2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("parts", "reach", "message"),
    [
        (PARTS[:0], 1, "parts must hold at least one patch"),
        (PARTS[0], 1, r"parts must have shape \(g, h, w, d\)"),
        (PARTS, 17, "reach must be from 0 to 16, found 17"),
        (PARTS, -1, "reach must be from 0 to 16, found -1"),
        (np.full_like(PARTS, np.nan), 1, "parts has NaN or Inf in row 0"),
    ],
)
def test_what_cannot_be_prepared_is_refused(parts, reach, message):
    with pytest.raises(ValueError, match=message):
        WindowSearch(parts, reach)
    with pytest.raises(TypeError):
        WindowSearch(PARTS.astype(np.float64), 1)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize(
    ("features", "places", "message"),
    [
        (np.ones((2, 3), np.float32), np.zeros((2, 2), np.int32), "d = 4 columns"),
        (np.ones((2, 4), np.float32), np.zeros((1, 2), np.int32), r"places must be int32 \(2, 2\)"),
        (np.ones((2, 4), np.float32), np.zeros((2, 2), np.int64), r"places must be int32 \(2, 2\), found int64"),
        (np.ones((1, 4), np.float32), np.array([[0, 3]], np.int32), "outside the grid of 2 x 3 patches"),
        (np.ones((1, 4), np.float32), np.array([[-1, 0]], np.int32), "outside the grid of 2 x 3 patches"),
        (np.full((1, 4), np.inf, np.float32), np.zeros((1, 2), np.int32), "features has NaN or Inf in row 0"),
    ],
)
def test_what_cannot_be_searched_is_refused(backend, features, places, message):
    with pytest.raises(ValueError, match=message):
        WindowSearch(PARTS, 1, backend=backend).search(features, places)
