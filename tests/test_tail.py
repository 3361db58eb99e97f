"""The fitted tail against scipy and against its own definition; what it refuses, and how often it is right."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.calibration.extreme_value import FEWEST_SCORES, Pareto, TailError, anderson_darling, extrapolate, fit_pareto


@pytest.mark.parametrize("shape", [-0.4, -0.1, 0.0, 0.2, 0.7])
def test_the_distribution_is_scipys(shape):
    genpareto = pytest.importorskip("scipy.stats").genpareto(shape, scale=2.5)
    x = np.linspace(0, 6, 50)
    np.testing.assert_allclose(Pareto(shape, 2.5).survival(x), genpareto.sf(x), rtol=1e-12)
    p = np.geomspace(1e-6, 1, 30)
    np.testing.assert_allclose(Pareto(shape, 2.5).excess(p), genpareto.isf(p), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3])
def test_the_fit_is_near_the_most_likely_one(shape):
    stats = pytest.importorskip("scipy.stats")
    x = Pareto(shape, 2.0).excess(np.random.default_rng(3).random(2000))
    found = fit_pareto(x)
    likely_shape, _, likely_scale = stats.genpareto.fit(x, floc=0)
    # A standard error of the shape is (1 + shape) / sqrt(n), 0.016 to 0.03 here; the two estimators are closer still.
    assert found.shape == pytest.approx(likely_shape, abs=0.01)
    assert found.scale == pytest.approx(likely_scale, rel=0.01)


def test_the_fit_by_its_definition():
    """Zhang and Stephens 2009, equations 6 to 8, in their own sign of the shape, number by number."""
    x = np.array([0.05, 0.1, 0.22, 0.4, 0.41, 0.7, 1.1, 1.3, 2.9])
    n, m, quartile = 9, 23, 0.1
    grid = [1 / 2.9 + (1 - (m / (j - 0.5)) ** 0.5) / (3 * quartile) for j in range(1, m + 1)]

    def likelihood(theta):
        k = -sum(np.log(1 - theta * value) for value in x) / n
        return n * (np.log(theta / k) + k - 1)

    values = [likelihood(theta) for theta in grid]
    weights = [1 / sum(np.exp(other - own) for other in values) for own in values]
    theta = sum(w * t for w, t in zip(weights, grid, strict=True))
    k = -sum(np.log(1 - theta * value) for value in x) / n
    found = fit_pareto(x)
    assert (found.shape, found.scale) == pytest.approx((-k, k / theta), rel=1e-9)


def test_anderson_darling_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    x = np.random.default_rng(4).exponential(size=60)
    fit = Pareto(0.0, float(x.mean()))
    expected = stats.anderson(x, "expon", method="interpolate").statistic
    assert anderson_darling(x, fit) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("draw", ["gamma", "normal", "beta"])
def test_the_extrapolated_rate_is_right_on_average(draw):
    """300 good parts, asked for a rate that needs 999: the true rates are known, and their median must be near."""
    stats = pytest.importorskip("scipy.stats")
    true = {"gamma": stats.gamma(3), "normal": stats.norm(), "beta": stats.beta(2, 4)}[draw]
    rng = np.random.default_rng(5)
    rates, covered = [], 0
    for _ in range(40):
        try:
            threshold, tail = extrapolate(true.rvs(300, random_state=rng), 0.001)
        except TailError:
            continue  # one fit in twenty is refused although it is right
        rates.append(true.sf(threshold))
        covered += tail.rate_low <= rates[-1] <= tail.rate_high
    assert len(rates) >= 32
    assert 0.0003 < np.median(rates) < 0.003
    # Intervals of 90 %: fewer than 24 of 32 have a probability under 1 %.
    assert covered >= 0.75 * len(rates)


def test_a_good_fit_is_refused_as_rarely_as_said():
    rng = np.random.default_rng(6)
    refused = 0
    for _ in range(40):
        try:
            extrapolate(rng.exponential(size=200), 0.002)
        except TailError:
            refused += 1
    # Binomial of 40 at 5 %: more than 7 have a probability of 0.1 %.
    assert refused <= 7


def test_two_clusters_are_no_tail():
    rng = np.random.default_rng(7)
    scores = np.concatenate([rng.normal(0, 1, 800), rng.normal(50, 0.1, 40)])
    with pytest.raises(TailError, match="do not follow"):
        extrapolate(scores, 0.0005)


@pytest.mark.parametrize(
    ("scores", "rate", "message"),
    [
        (np.arange(FEWEST_SCORES - 1), 0.005, "needs 100 good images, found 99"),
        (np.arange(150), 0.0001, "needs 999 good images, found 150"),
        (np.ones(200), 0.001, "are equal"),
    ],
)
def test_what_cannot_be_extrapolated(scores, rate, message):
    with pytest.raises(TailError, match=message):
        extrapolate(scores, rate)
