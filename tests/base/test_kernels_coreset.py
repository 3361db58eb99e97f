"""greedy_coreset on every backend and instruction set level.

Where sums are exact (small whole numbers) the picks must be the reference's, ties included. Elsewhere they must
be, to the last, those of the plain greedy with the level's own float32 distance; and each must be farthest in float64
to within that distance's relative error, (d + 4) 2^-24 of the square for either of the two rows compared.
"""

from __future__ import annotations

import numpy as np
import pytest
import reference
from backends import at_odd_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead import kernels
from edgead.kernels.backend import native

ALL = [*(f"cpu:{isa}" for isa in kernels.available_isas()), "numpy"]
NATIVE = [f"cpu:{isa}" for isa in kernels.available_isas()]


@pytest.fixture(params=ALL)
def backend(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(22)


def plain_greedy(features, count, first, level):
    """The same float32 distances, every row against every pick."""
    bound = np.full(len(features), np.inf, np.float32)
    picks = [first]
    while len(picks) < count:
        bound = np.minimum(bound, native.coreset_distances(features, picks[-1], level))
        bound[picks] = -1
        picks.append(int(np.argmax(bound)))
    return picks


def assert_greedy(features, picks, d):
    exact = features.astype(np.float64)
    exact /= np.abs(exact).max() or 1
    squared = np.full(len(exact), np.inf)
    for last, pick in zip(picks, picks[1:], strict=False):
        squared = np.minimum(squared, ((exact - exact[last]) ** 2).sum(axis=1))
        assert squared[pick] >= squared.max() * (1 - 2 * (d + 4) * 2.0**-24)


def clusters(rng, n, d):
    centres = rng.standard_normal((20, d)) * 3
    return (centres[rng.integers(0, 20, n)] + rng.standard_normal((n, d)) * 0.3).astype(np.float32)


@pytest.mark.parametrize(
    ("n", "d", "count", "first"),
    [(1, 1, 1, 0), (40, 3, 40, 7), (500, 2, 300, 499), (3000, 5, 400, 0), (9000, 8, 150, 3)],
)
def test_whole_numbers(backend, rng, n, d, count, first):
    features = rng.integers(-8, 9, (n, d)).astype(np.float32)  # many equal rows and equal distances
    picks = kernels.greedy_coreset(features, count, first=first, backend=backend)
    assert picks.dtype == np.int64
    np.testing.assert_array_equal(picks, reference.greedy_coreset(features, count, first))


@pytest.mark.parametrize("d", [1, 5, 16, 17, 67, 152])
@pytest.mark.parametrize("backend", NATIVE)
def test_picks_are_those_of_the_plain_greedy(backend, rng, d):
    for features in (
        rng.standard_normal((2500, d), dtype=np.float32),
        clusters(rng, 6000, d),
        clusters(rng, 900, d) + 500,
    ):
        count = min(700, len(features))
        features = np.ascontiguousarray(features, np.float32)
        picks = kernels.greedy_coreset(features, count, backend=backend)
        np.testing.assert_array_equal(picks, plain_greedy(features, count, 0, backend.removeprefix("cpu:")))


@pytest.mark.parametrize("d", [6, 40, 150])
@pytest.mark.parametrize("backend", NATIVE)
def test_nearly_equal_distances(backend, rng, d):
    # Distances differ in digits that float32 products do not see: only a sound error bound computes each that matters.
    corners = rng.choice([-1.0, 1.0], (30, d))
    features = (corners[rng.integers(0, 30, 3000)] + rng.standard_normal((3000, d)) * 1e-6).astype(np.float32)
    picks = kernels.greedy_coreset(features, 800, backend=backend)
    np.testing.assert_array_equal(picks, plain_greedy(features, 800, 0, backend.removeprefix("cpu:")))


def test_picks_are_farthest(backend, rng):
    features = clusters(rng, 2000, 30)
    assert_greedy(features, kernels.greedy_coreset(features, 200, first=5, backend=backend), 30)


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-10, 1e10, 1e19, 1e37])
def test_magnitudes(backend, rng, scale):
    features = clusters(rng, 600, 7) * np.float32(scale)
    picks = kernels.greedy_coreset(features, 100, backend=backend)
    assert len(set(picks.tolist())) == 100
    assert_greedy(features, picks, 7)


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("scale", [1e-19, 1e-21, 1e-22])
def test_squares_that_underflow(backend, rng, scale):
    features = clusters(rng, 600, 7) * np.float32(scale)
    features[:, 0] = 1
    picks = kernels.greedy_coreset(features, 600, backend=backend)
    np.testing.assert_array_equal(picks, plain_greedy(features, 600, 0, backend.removeprefix("cpu:")))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 400), d=st.integers(1, 40), seed=st.integers(0, 1 << 30), offset=st.sampled_from([0, 10, 1e4]))
def test_any_features(n, d, seed, offset):
    rng = np.random.default_rng(seed)
    features = (rng.standard_normal((n, d)) * rng.exponential(1, d) + offset).astype(np.float32)
    features = features[rng.integers(0, n, n)]
    count, first = int(rng.integers(1, n + 1)), int(rng.integers(0, n))
    for backend in NATIVE:
        picks = kernels.greedy_coreset(features, count, first=first, backend=backend)
        np.testing.assert_array_equal(picks, plain_greedy(features, count, first, backend.removeprefix("cpu:")))


def go_on(features, chosen, barred, count, backend):
    """What was chosen, and what is chosen after it."""
    squared = ((features.astype(np.float64)[:, None] - features[chosen]) ** 2).sum(axis=2)
    nearest = np.asarray(chosen)[squared.argmin(axis=1)]
    nearest[chosen] = chosen  # also of rows that are equal
    nearest[barred] = -1
    return kernels.extend_coreset(features, nearest, count, backend=backend)


@pytest.mark.parametrize("d", [1, 5, 16, 17, 67, 152])
def test_going_on_chooses_what_one_go_would_have(backend, rng, d):
    features = rng.integers(-8, 9, (3000, d)).astype(np.float32)
    picks = kernels.greedy_coreset(features, 300, backend=backend)
    more = go_on(features, picks[:120], [], 180, backend)
    assert more.dtype == np.int64
    np.testing.assert_array_equal(more, picks[120:])


def test_rows_that_may_not_be_chosen_are_not_and_count_for_nothing(backend, rng):
    features = rng.integers(-8, 9, (900, 5)).astype(np.float32)
    free = np.flatnonzero(rng.random(900) < 0.7)
    picks = reference.greedy_coreset(features[free], 200)
    more = go_on(features, free[picks[:30]], np.setdiff1d(np.arange(900), free), 170, backend)
    np.testing.assert_array_equal(more, free[picks[30:]])


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-10, 1e10, 1e19, 1e37])
def test_going_on_at_any_magnitude(backend, rng, scale):
    features = clusters(rng, 600, 7) * np.float32(scale)
    picks = kernels.greedy_coreset(features, 100, backend=backend)
    np.testing.assert_array_equal(go_on(features / np.float32(scale), picks[:40], [], 60, backend)[:20], picks[40:60])
    assert_greedy(features, [*picks[:40], *go_on(features, picks[:40], [], 60, backend)], 7)


def test_going_on_ends_where_nothing_is_left(backend):
    features = np.arange(10, dtype=np.float32)[:, None]
    nearest = np.array([0, 0, -1, 0, -1, -1, -1, -1, -1, -1])
    np.testing.assert_array_equal(kernels.extend_coreset(features, nearest, 5, backend=backend), [3, 1])
    np.testing.assert_array_equal(kernels.extend_coreset(features, at_odd_bytes(nearest), 5, backend=backend), [3, 1])
    nearest[:] = -1
    assert len(kernels.extend_coreset(features, nearest, 5, backend=backend)) == 0


def test_arguments_of_going_on(backend):
    features, nearest = np.ones((10, 4), np.float32), np.zeros(10, np.int64)
    for wrong, why in ((nearest[:9], r"int64 \(n,\), found int64 \(9,\)"), (nearest.astype(np.int32), "int32")):
        with pytest.raises(ValueError, match=f"nearest must be .*{why}"):
            kernels.extend_coreset(features, wrong, 2, backend=backend)
    for row in (-2, 10):
        with pytest.raises(ValueError, match="nearest must be rows of features, or -1, found"):
            kernels.extend_coreset(features, np.full(10, row), 2, backend=backend)
    with pytest.raises(ValueError, match="count must be from 1 to the 10 rows"):
        kernels.extend_coreset(features, nearest, 11, backend=backend)
    features[6, 1] = np.inf
    with pytest.raises(ValueError, match="features has NaN or Inf in row 6"):
        kernels.extend_coreset(features, nearest, 2, backend=backend)


def test_equal_rows_are_taken_in_order(backend):
    picks = kernels.greedy_coreset(np.ones((50, 3), np.float32), 50, first=4, backend=backend)
    np.testing.assert_array_equal(picks, [4, *range(4), *range(5, 50)])


@pytest.mark.parametrize("backend", NATIVE)
def test_thread_counts_agree(backend, rng):
    features = clusters(rng, 20000, 40)
    before = kernels.threads()
    try:
        picks = []
        for count in (1, 2, 5):
            kernels.set_threads(count)
            picks.append(kernels.greedy_coreset(features, 300, backend=backend).tolist())
    finally:
        kernels.set_threads(before)
    assert picks[0] == picks[1] == picks[2]


class Stop(Exception):
    pass


def test_progress_can_stop(backend, rng):
    features = rng.standard_normal((60000, 64), dtype=np.float32)
    seen = []

    def progress(done, total):
        seen.append((done, total))
        raise Stop

    with pytest.raises(Stop):
        kernels.greedy_coreset(features, 30000, progress=progress, backend=backend)
    assert len(seen) == 1
    assert 1 <= seen[0][0] < seen[0][1] == 30000


def test_progress_ends_with_all(backend, rng):
    features, seen = rng.standard_normal((20, 4), dtype=np.float32), []
    kernels.greedy_coreset(features, 5, progress=lambda *done: seen.append(done), backend=backend)
    kernels.extend_coreset(
        features, np.zeros(20, np.int64), 3, progress=lambda *done: seen.append(done), backend=backend
    )
    assert seen[-1] == (3, 3) and (5, 5) in seen


def test_arguments(backend):
    features = np.ones((10, 4), np.float32)
    for count in (0, 11):
        with pytest.raises(ValueError, match=f"count must be from 1 to the 10 rows of features, found {count}"):
            kernels.greedy_coreset(features, count, backend=backend)
    for first in (-1, 10):
        with pytest.raises(ValueError, match="first must be a row of features, 0 to 9"):
            kernels.greedy_coreset(features, 2, first=first, backend=backend)
    with pytest.raises(TypeError, match="float32, found float64"):
        kernels.greedy_coreset(features.astype(np.float64), 2, backend=backend)
    features[6, 1] = np.nan
    with pytest.raises(ValueError, match="features has NaN or Inf in row 6"):
        kernels.greedy_coreset(features, 2, backend=backend)
