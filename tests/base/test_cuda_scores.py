"""Scores of groups of rows by the products of the CUDA search: off by no more than their bound.

test_cuda_build.py runs these on an emulated GPU.
"""

from __future__ import annotations

import numpy as np
import pytest
from backends import needs_cuda
from test_cuda import code

from edgead import kernels

pytestmark = needs_cuda

GROUP_ROWS, TILE_ROWS = 16, 128
TILE_GROUPS = TILE_ROWS // GROUP_ROWS


@pytest.fixture
def rng():
    return np.random.default_rng(25)


def rows_of(group):
    """Rows by slot: (slots,)."""
    slot = np.arange(GROUP_ROWS)
    tile, of_tile = divmod(group, TILE_GROUPS)
    return tile * TILE_ROWS + of_tile // 4 * 64 + slot // 2 * 8 + of_tile % 4 * 2 + slot % 2


def scores_in_frame(bank, features, centre):
    """S(q, b) = |b|^2 / 2 - q.b, far more exactly than any kernel has it."""
    exponent = -int(np.frexp(np.abs(bank).max())[1]) + 1 if bank.any() else 0
    b, q = (np.ldexp(rows.astype(np.longdouble), exponent) - centre for rows in (bank, features))
    return (b * b).sum(1) / 2 - (q[:, None] * b).sum(2)


def check_scores(bank, features):
    """The contract of GroupScores; returns errors of the smallest scores as shares of their bounds (n, groups)."""
    minima, bounds, centre = code.NearestIndex(bank).group_scores(features)
    usable = np.isfinite(bounds).all(1)
    exact = scores_in_frame(bank, np.where(usable[:, None], features, 0), centre)
    shares = np.zeros(bounds.shape)
    for group in range(bounds.shape[1]):
        rows = rows_of(group)
        there = rows < len(bank)
        least, second = minima[:, group].T
        if not there.any():
            others = minima[:, : len(bank) // TILE_ROWS * TILE_GROUPS, 0]
            assert (least[usable, None] > others[usable]).all()
            continue
        slot = np.ascontiguousarray(least).view(np.uint32) & (GROUP_ROWS - 1)
        assert there[slot[usable]].all()
        of_rows = np.full((len(features), len(rows)), np.inf, np.longdouble)
        of_rows[:, there] = exact[:, rows[there]]
        bound = bounds[:, group].astype(np.longdouble)
        off = np.abs(least - np.take_along_axis(of_rows, slot[:, None].astype(np.intp), 1)[:, 0])
        assert (off <= bound)[usable].all()
        assert (of_rows.min(1) >= least - bound)[usable].all()
        np.put_along_axis(of_rows, slot[:, None].astype(np.intp), np.inf, 1)
        assert (of_rows.min(1) >= second - bound)[usable].all()
        shares[usable, group] = (off / np.where(bound > 0, bound, 1))[usable]
    return shares


def check_search(bank, features, k):
    """Distances and rows are those of the CPU."""
    found = code.NearestIndex(bank).search(features, k)
    distance, index = kernels.NearestPatches(bank, backend="numpy").search(features, k)
    np.testing.assert_allclose(found[0], distance, rtol=2e-7)
    # So far away, float64 does not know one row from another.
    near = np.abs(features).max(1).astype(float) < 1e12 * float(np.abs(bank).max())
    np.testing.assert_array_equal(found[1][near], index[near])


def usual(rng, count, d):
    return (rng.standard_normal((count, d)) * np.arange(1, d + 1) ** -0.5 + 0.5).astype(np.float32)


def hard_cases(rng, d):
    """Banks and features by name."""

    def normal(count):
        return rng.standard_normal((count, d))

    spike = (np.arange(d) == d // 2) * 1e7
    sides = rng.choice([-1, 1], (150, 1))
    bases, small = normal(3), normal(7)
    return {
        "usual": (usual(rng, 150, d), usual(rng, 8, d)),
        "one heavy dimension": (normal(150) + spike, normal(8) + spike),
        "one heavy dimension, both signs": (normal(150) + sides * spike, normal(8) + sides[:8] * spike),
        "constant rows": (np.repeat(rng.integers(-3, 4, (150, 1)), d, 1), np.repeat(normal(8)[:, :1], d, 1)),
        "rows all alike": (np.tile(bases[0], (150, 1)), bases[[0, 1, 2, 0]]),
        "zeros": (np.zeros((150, d)), np.concatenate([np.zeros((1, d)), normal(3)])),
        "one row is large": (np.where(np.arange(150)[:, None] == 70, 1e4, 1) * normal(150), normal(8)),
        "one row is the largest there is": (
            np.where(np.arange(150)[:, None] == 70, 3e38, 1) * np.sign(normal(150)),
            np.concatenate([normal(10), 3e38 * np.sign(normal(3))]),
        ),
        "far from zero": (normal(150) + 1e6, normal(8) + 1e6),
        "far queries": (normal(130), normal(8) * np.logspace(0, 38, 8)[:, None]),
        "near queries": (normal(150), normal(8) * np.logspace(0, -44, 8)[:, None]),
        "queries near the centre": (
            np.concatenate([8 * bases[:1], -8 * bases[:1], small, -small]),
            normal(8) * np.logspace(0, -44, 8)[:, None],
        ),
        "huge": (1e37 * normal(150), 1e37 * normal(8)),
        "tiny": (1e-36 * normal(150), 1e-36 * normal(8)),
        "denormal": (1e-41 * normal(150), 1e-41 * normal(8)),
        "wide range": tuple(np.ldexp(normal(n), rng.integers(-40, 1, (n, d))) for n in (150, 8)),
        "signs alone": tuple(np.sign(normal(n)) for n in (150, 8)),
        "one row": (normal(1), normal(5)),
        "less than a tile, and more": (normal(257), normal(131)),
    }


HARD = list(hard_cases(np.random.default_rng(0), 40))


@pytest.mark.parametrize("case", HARD)
def test_scores_are_within_their_bounds(rng, case):
    with np.errstate(under="ignore"):
        bank, features = (np.ascontiguousarray(rows, np.float32) for rows in hard_cases(rng, 40)[case])
    check_scores(bank, features)
    check_search(bank, features, min(3, len(bank)))


@pytest.mark.parametrize("d", [1, 7, 33, 64, 65, 97, 168, 385, 1536])
def test_dimensions_off_the_tile(rng, d):
    bank, features = usual(rng, 140, d), usual(rng, 9, d)
    assert check_scores(bank, features).max() < 0.9 or d < 33
    check_search(bank, features, 1)


def test_features_that_are_not_finite(rng):
    bank, features = rng.standard_normal((300, 40), dtype=np.float32), rng.standard_normal((20, 40), dtype=np.float32)
    features[[3, 7, 11], [0, 39, 20]] = np.nan, np.inf, -np.inf
    check_scores(bank, features)
    index = code.NearestIndex(bank)
    with pytest.raises(ValueError, match="NaN or Inf in row 3"):
        index.search(features, 1)
    features = np.concatenate([bank[:133], features])
    with pytest.raises(ValueError, match="NaN or Inf in row 136"):
        code.NearestIndex(bank, work_bytes=1).search(features, 1)
    bank[200, 5] = np.inf
    with pytest.raises(ValueError, match="NaN or Inf in row 200"):
        code.NearestIndex(bank)


def test_scores_are_of_one_part(rng):
    index = code.NearestIndex(usual(rng, 20, 34), work_bytes=1)
    assert index.group_scores(usual(rng, 128, 34))
    for n in (129, 0):
        with pytest.raises(ValueError, match="one part"):
            index.group_scores(usual(rng, n, 34))
