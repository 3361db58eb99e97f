"""The metric that good parts teach: its definition, groups, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.adapt.memory_bank.feature_space import SHRINKAGE, equal_loudness, fit_metric, inverse_root

PER_IMAGE = 60


def patches_of(images: int, rng: np.random.Generator, loud: np.ndarray, kinds: int = 4) -> np.ndarray:
    """Patches of a few kinds; between images each moves along the loud direction."""
    centres = 4 * np.random.default_rng(9).normal(size=(kinds, len(loud)))
    rows = []
    for _ in range(images):
        shift = rng.normal() * loud
        rows.append(
            centres[rng.integers(kinds, size=PER_IMAGE)] + shift + 0.1 * rng.normal(size=(PER_IMAGE, len(loud)))
        )
    return np.concatenate(rows).astype(np.float32)


def test_a_direction_in_which_good_parts_differ_counts_for_less():
    loud = np.zeros(8)
    loud[3] = 1.5
    metric = fit_metric(patches_of(20, np.random.default_rng(0), loud), range(20)).matrix
    gains = np.linalg.norm(metric, axis=1)
    assert gains[3] < 0.75 * np.delete(gains, 3).min()
    np.testing.assert_array_equal(metric, metric.T)


def test_the_inverse_root_makes_every_direction_equally_loud_up_to_the_shrinkage():
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    variances = np.array([6.0, 2.0, 1.0, 0.0])
    root = inverse_root(basis @ np.diag(variances) @ basis.T)
    shrunk = (1 - SHRINKAGE) * variances / variances.mean() + SHRINKAGE
    np.testing.assert_allclose(root @ root, basis @ np.diag(1 / shrunk) @ basis.T, rtol=1e-4, atol=1e-4)


def test_images_of_one_group_are_not_compared_with_each_other():
    """Copies of a part would say that nothing varies: their residuals must be to other parts."""
    loud = np.zeros(8)
    loud[2] = 1.5
    parts = patches_of(10, np.random.default_rng(2), loud).reshape(10, PER_IMAGE, 8)
    tripled = np.repeat(parts, 3, axis=0).reshape(-1, 8)
    by_part = fit_metric(tripled, np.repeat(range(10), 3)).matrix
    by_image = fit_metric(tripled, range(30)).matrix
    once = fit_metric(parts.reshape(-1, 8), range(10)).matrix
    assert by_part[2, 2] == pytest.approx(once[2, 2], rel=0.3)
    assert by_part[2, 2] < 0.8 * by_image[2, 2]


@pytest.mark.parametrize("groups", [[0, 0, 0], [7]])
def test_one_group_teaches_nothing(groups):
    patches = np.random.default_rng(0).normal(size=(len(groups) * 5, 4)).astype(np.float32)
    np.testing.assert_array_equal(fit_metric(patches, groups).matrix, np.eye(4, dtype=np.float32))


def test_copies_alone_teach_nothing():
    patches = np.tile(np.arange(4, dtype=np.float32), (40, 1))
    np.testing.assert_array_equal(fit_metric(patches, range(4)).matrix, np.eye(4, dtype=np.float32))


def test_the_same_again_for_the_same_seed():
    patches = patches_of(8, np.random.default_rng(0), np.ones(6))
    np.testing.assert_array_equal(fit_metric(patches, range(8)).matrix, fit_metric(patches, range(8)).matrix)


def test_halves_have_metrics_of_their_own():
    rng = np.random.default_rng(3)
    patches = rng.normal(size=(20 * 50, 8)).astype(np.float32)
    patches[:, 4:] += patches[:, :4]  # what both cameras see together
    matrix = fit_metric(patches, range(20), halves=True).matrix
    assert not matrix[:4, 4:].any() and not matrix[4:, :4].any() and fit_metric(patches, range(20)).matrix[:4, 4:].any()


def test_the_half_whose_good_parts_differ_more_becomes_quieter():
    rng = np.random.default_rng(4)
    images, patches = 30, 60
    odd = np.repeat(rng.uniform(1, 2, images), patches)[:, None]  # some good parts are farther from the others
    steady, unsteady = (rng.normal(size=(images * patches, 6)) for _ in range(2))
    both = np.hstack([steady, unsteady * odd]).astype(np.float32)
    first, second = equal_loudness(both, range(images))
    assert first * second == pytest.approx(1) and 0.5 <= second / first < 0.8
    turned = equal_loudness(np.hstack([both[:, 6:], both[:, :6]]), range(images))
    assert turned == pytest.approx((second, first), rel=0.05)
    louder = equal_loudness(both * np.repeat([1, 100], 6).astype(np.float32), range(images))
    assert louder[1] / louder[0] == pytest.approx(0.5)
    assert equal_loudness(both[: 9 * patches], range(9)) == (1.0, 1.0)
    one_part = equal_loudness(both, np.zeros(images, int))
    assert one_part == (1.0, 1.0)
