"""The two-sample test: its statistic is scipy's, its p-value is exact, and it sees another day."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from edgead.calibration.two_sample import _pool, _statistic, same_distribution_p_value


def cramer_von_mises(first, second) -> float:
    return _statistic(*_pool(first, second))


@pytest.mark.parametrize(("n", "m"), [(5, 7), (40, 191), (1, 9)])
def test_the_statistic_is_scipys(n, m):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(n)
    first, second = rng.normal(size=n), rng.normal(0.5, size=m)
    # scipy needs two of each; a third sample stands in for one score.
    if n > 1:
        expected = stats.cramervonmises_2samp(first, second).statistic
        assert cramer_von_mises(first, second) == pytest.approx(expected, rel=1e-9)
    assert cramer_von_mises(first, second) == pytest.approx(cramer_von_mises(second, first), rel=1e-12)


def test_the_p_value_is_that_of_all_labellings():
    """With ties; enumerated, where permutations only sample."""
    first, second = [1.0, 2.0, 2.0, 5.0], [2.0, 4.0, 6.0, 6.0, 7.0]
    pooled = np.array(first + second)
    observed = cramer_von_mises(first, second)
    labellings = [list(chosen) for chosen in combinations(range(9), 4)]
    as_far = sum(
        cramer_von_mises(pooled[chosen], np.delete(pooled, chosen)) >= observed - 1e-12 for chosen in labellings
    )
    exact = as_far / len(labellings)
    # Five standard deviations of a share of 19,999.
    spread = 5 * (exact * (1 - exact) / 20_000) ** 0.5
    assert same_distribution_p_value(first, second, permutations=19_999) == pytest.approx(exact, abs=spread)


def test_false_alarms_are_as_rare_as_said():
    rng = np.random.default_rng(8)
    p = [same_distribution_p_value(rng.normal(size=30), rng.normal(size=40), permutations=199) for _ in range(200)]
    # Binomial of 200 at 10 %: outside of 8 to 34 with a probability of 0.3 %.
    assert 8 <= np.sum(np.array(p) <= 0.1) <= 34


def test_another_day_is_seen():
    rng = np.random.default_rng(9)
    assert same_distribution_p_value(rng.normal(size=150), rng.normal(0.6, size=100)) < 0.01
    assert same_distribution_p_value([1.0] * 20, [1.0] * 30) == 1.0


def test_an_empty_sample():
    with pytest.raises(ValueError, match="0 and 3"):
        cramer_von_mises([], [1, 2, 3])
