"""Scores that stand apart: what is found, and how seldom good scores are suspected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgead.calibration.outliers import others_at_most, stand_apart

GOOD = np.linspace(0.8, 0.95, 20)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param(GOOD, [], id="good ones"),
        pytest.param([*GOOD, 1.469, 1.485], [21, 20], id="two defects, the higher first"),
        pytest.param([*GOOD, 1.0], [], id="the next one"),
        pytest.param([*GOOD, *GOOD + 1], [], id="half of all are no exception"),
        pytest.param([*GOOD[:15], *GOOD[:5] + 1], [19, 18, 17, 16, 15], id="a quarter of all"),
        pytest.param([*GOOD[:14], *GOOD[:6] + 1], [], id="more than a quarter"),
        pytest.param(np.append(GOOD, 0.1), [], id="far below"),
        pytest.param(np.full(20, 0.5), [], id="all the same"),
        pytest.param([*np.full(20, 0.5), 0.5001], [], id="rounding"),
        pytest.param([*-GOOD, 1.0], [20], id="negative scores"),
        pytest.param([0.5], [], id="one"),
        pytest.param(np.zeros(20), [], id="all zero"),
        pytest.param([*np.zeros(19), 5.0], [19], id="all zero but a defect"),
        pytest.param([*np.zeros(19), 1e300], [19], id="all zero but a huge one"),
        pytest.param([*np.zeros(12), *GOOD[:8] / 2], [], id="most are zero"),
    ],
)
def test_what_stands_apart(scores, expected):
    assert stand_apart(scores) == expected


def test_the_highest_of_the_others():
    assert others_at_most([1.0, 9.0, 3.0, 8.0], stand_apart([1.0, 9.0, 3.0, 8.0])) == 9.0
    assert others_at_most([1.0, 9.0, 3.0, 8.0], [1, 3]) == 3.0


SETS = 500
FAMILIES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "logistic": lambda rng, size: rng.logistic(size=size),
    "Gumbel": lambda rng, size: rng.gumbel(size=size),
}


def suspected(family: str, size: int, *, outliers: int = 0, at: float = 0.0) -> float:
    """Share of the sets in which a score stands apart; with outliers, in which all of them do.

    Outliers lie `at` robust standard deviations above the median.
    """
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(SETS):
        scores = FAMILIES[family](rng, size)
        middle = np.median(scores)
        spread = 1.4826 * np.median(np.abs(scores - middle))
        scores[:outliers] = middle + spread * (at + rng.normal(0, 0.7, outliers))
        found = set(stand_apart(scores))
        hits += set(range(outliers)) <= found if outliers else bool(found)
    return hits / SETS


@pytest.mark.parametrize(("family", "most"), [("normal", 0.01), ("logistic", 0.03), ("Gumbel", 0.08)])
def test_good_scores_are_seldom_suspected(family, most):
    assert suspected(family, 20) <= most and suspected(family, 100) <= most


def test_outliers_of_normal_scores_are_found():
    assert suspected("normal", 40, outliers=2, at=8) > 0.9
