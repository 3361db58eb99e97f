"""GroupedPatches on every backend and instruction set level against float64, with the tolerance of
test_kernels_nearest.py: a distance and the float64 one rounded to float32 are equal or neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from backends import EACH
from test_kernels_nearest import NAMES, adversarial

from edgead import kernels


@pytest.fixture(params=EACH)
def backend(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(21)


def expected_distances(bank, sizes, features):
    groups = np.split(bank, np.cumsum(sizes)[:-1])
    return np.concatenate([reference.nearest(features, group, 1)[0] for group in groups], axis=1)


def check(bank, sizes, features, backend, *, prescan=True):
    distance = kernels.GroupedPatches(bank, sizes, backend=backend, prescan=prescan).search(features)
    assert (distance.shape, distance.dtype) == ((len(features), len(sizes)), np.float32)
    with np.errstate(over="ignore"):
        rounded = expected_distances(bank, sizes, features).astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(distance[~finite], rounded[~finite])
    assert np.all(np.abs(distance[finite] - rounded[finite]) <= np.spacing(rounded[finite]))
    return distance


# On and off the widths of a vector (4, 8, 16), a panel (8 to 32 rows, 128 on the GPU) and a tile (4 to 12 queries).
@pytest.mark.parametrize("d", [1, 17, 64, 151])
@pytest.mark.parametrize(
    ("sizes", "n"), [([1], 1), ([1, 1, 1], 13), ([7, 33, 1, 129], 5), ([32, 96, 128], 12), ([257, 500, 784], 30)]
)
def test_shapes(backend, rng, sizes, n, d):
    bank = rng.standard_normal((sum(sizes), d), dtype=np.float32)
    check(bank, sizes, rng.standard_normal((n, d), dtype=np.float32), backend)


@pytest.mark.parametrize("name", NAMES)
def test_adversarial(backend, rng, name):
    bank, features = adversarial(name, rng)
    check(bank, [100, 1, len(bank) - 101], features, backend)


def test_groups_on_different_scales(backend, rng):
    # One frame and one step of the codes serve all groups: the near and the far ones must stay exact.
    groups = [rng.standard_normal((90, 40)) * scale for scale in (1e-4, 1, 1e5)]
    bank = np.concatenate(groups).astype(np.float32)
    check(bank, [90, 90, 90], np.ascontiguousarray(bank[::7]) + np.float32(1e-3), backend)


def test_rows_of_their_own_group_are_found(backend, rng):
    bank = rng.standard_normal((300, 24), dtype=np.float32)
    distance = check(bank, [120, 180], bank, backend)
    assert not distance[:120, 0].any() and not distance[120:, 1].any()
    assert distance[:120, 1].all() and distance[120:, 0].all()


def test_without_a_prescan_nothing_changes(backend, rng):
    bank = rng.standard_normal((700, 30), dtype=np.float32)
    features = rng.standard_normal((40, 30), dtype=np.float32)
    sizes = [300, 11, 389]
    np.testing.assert_array_equal(
        check(bank, sizes, features, backend), check(bank, sizes, features, backend, prescan=False)
    )


@pytest.mark.parametrize("count", [1, 2, 5])
def test_thread_counts_agree(backend, rng, count):
    index = kernels.GroupedPatches(rng.standard_normal((700, 40), dtype=np.float32), [100] * 7, backend=backend)
    before = kernels.threads()
    try:
        for n in (0, 1, 13, 200):
            features = rng.standard_normal((n, 40), dtype=np.float32)
            kernels.set_threads(1)
            alone = index.search(features)
            kernels.set_threads(count)
            np.testing.assert_array_equal(alone, index.search(features))
    finally:
        kernels.set_threads(before)


def test_the_first_row_that_is_not_finite_is_named(backend, rng):
    bank = rng.standard_normal((600, 16), dtype=np.float32)
    features = rng.standard_normal((70, 16), dtype=np.float32)
    index = kernels.GroupedPatches(bank, [300, 300], backend=backend)
    features[[41, 66], 3] = np.nan, np.inf
    with pytest.raises(ValueError, match="row 41"):
        index.search(features)
    bank[333, 0] = np.inf
    with pytest.raises(ValueError, match="memory_bank has NaN or Inf in row 333"):
        kernels.GroupedPatches(bank, [300, 300], backend=backend)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([3, 0, 2], "group 1 is empty"),
        ([], "sizes must be"),
        ([2.5, 2.5], "sizes must be"),
        ([2, 2], "must add up"),
    ],
)
def test_sizes_that_are_none_are_refused(backend, sizes, message):
    with pytest.raises(ValueError, match=message):
        kernels.GroupedPatches(np.ones((5, 4), np.float32), sizes, backend=backend)


def test_features_of_another_width_are_refused(backend):
    index = kernels.GroupedPatches(np.ones((5, 4), np.float32), [5], backend=backend)
    with pytest.raises(ValueError, match="d = 4"):
        index.search(np.ones((2, 3), np.float32))
