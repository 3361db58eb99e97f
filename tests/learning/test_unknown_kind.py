"""S3AD's score of what is there and of no known kind: equal to the authors' code, and what it is taken with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the benchmark needs scikit-learn")

from benchmarks.kinds_measures import Described  # noqa: E402
from benchmarks.unknown_kind import SCORES, class_scores, measured, rbaf  # noqa: E402
from edgead.unlabelled.sorting.describe import ScoredImage  # noqa: E402

FIXTURE = Path(__file__).parents[1] / "fixtures" / "authors" / "s3ad.npz"
CLASSES = 4


@pytest.mark.parametrize("name", SCORES)
def test_the_scores_are_the_authors(name):
    """`tests/s3ad_authors.py` ran their code on the same sigmoids."""
    with np.load(FIXTURE, allow_pickle=False) as theirs:
        sigmoids = theirs["sigmoids"].astype(np.float64)
        found = SCORES[name](sigmoids[:, CLASSES + 1], sigmoids[:, :CLASSES])
        np.testing.assert_allclose(found, theirs[name], atol=1e-6)
        assert np.ptp(theirs[name]) > 0.5


def test_it_is_highest_for_what_is_there_and_like_nothing():
    foreground = np.array([0.9, 0.9, 0.1])
    known = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.1]])
    assert rbaf(foreground, known).argmax() == 0


def drawn(rng, *, kinds, each, good):
    """Rejects of kinds that lie far apart, five images a part, and good images around 0."""
    centres = np.vstack([4 * np.eye(kinds, 12), np.zeros((1, 12))])
    labels = np.repeat(np.arange(kinds + 1), [each] * kinds + [good])
    residuals = centres[labels] + rng.normal(0, 0.3, (len(labels), 12))
    descriptors = np.concatenate([residuals, rng.normal(0, 0.1, (len(labels), 24))], axis=1).astype(np.float32)
    is_good = labels == kinds
    judged = [
        ScoredImage(Path(), "ok" if fine else "reject", float(1 - fine + rng.uniform(0, 0.1)), row)
        for fine, row in zip(is_good, descriptors, strict=True)
    ]
    parts = np.arange(len(labels)) // 2
    return Described(judged, labels, parts, parts), [*(f"kind {i}" for i in range(kinds)), "good"]


def test_known_kinds_are_known_each_by_itself_and_an_unknown_one_is_none():
    data, names = drawn(np.random.default_rng(0), kinds=4, each=40, good=40)
    good, rest = data.of(data.kinds == 4), data.of(data.kinds < 4)
    known, tested = rest.of((rest.kinds < 3) & (rest.parts % 2 == 0)), rest.of(rest.parts % 2 == 1)
    found = class_scores(known, good, tested, np.random.default_rng(0))
    is_known = tested.kinds < 3
    np.testing.assert_array_equal(found[is_known].argmax(axis=1), tested.kinds[is_known])
    assert found[is_known].max(axis=1).min() > found[~is_known].max(axis=1).max()
    result = measured(data, names, draws=2)
    assert result["RBAF"] > 0.95 and result["MSPF"] > 0.95 and result["p_value"] > 0.95


def test_kinds_without_a_difference_are_chance():
    data, names = drawn(np.random.default_rng(1), kinds=4, each=40, good=40)
    shuffled = Described(data.judged, np.random.default_rng(2).permutation(data.kinds), data.parts, data.looks)
    result = measured(shuffled, names, draws=2)
    assert all(abs(value - 0.5) < 0.15 for value in result.values())
