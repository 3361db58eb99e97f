"""Operating points: what limits reject and find, the cheapest of them, and the table that is printed of them."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.calibration.conformal import CalibrationError, calibrate, conformal_threshold, raised, share_above
from edgead.calibration.group_conformal import dense
from edgead.calibration.operating_point import SHOWN_RATES, Cheapest, Costs, cheapest_rate, operating_points
from edgead.cli.advice import points_table

EVEN = Costs(escape=10, reject=1, defective=0.1)


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    return rng.normal(0, 1, 60).tolist(), rng.normal(4, 1, 30).tolist()


def test_points_count_what_lies_above_their_limits(scores):
    good, defects = scores
    points = operating_points(good, (), defects)
    assert [point.rate for point in points] == [0.02, 0.05, 0.1, 0.2]  # 60 images do not support 1 %
    for point in points:
        assert point.limit == raised(conformal_threshold(good, point.rate))
        assert point.above == sum(score > point.limit for score in good) <= point.rate * 61
        assert point.found == sum(score > point.limit for score in defects)


def test_groups_support_as_many_rates_as_there_are_groups(scores):
    good, _ = scores
    assert [point.rate for point in operating_points(good, np.repeat(range(12), 5).tolist())] == [0.1, 0.2]
    assert [point.rate for point in operating_points(good[:19])] == [0.05, 0.1, 0.2]  # just enough for 5 %


def cost_of(limit, good, defects, costs):
    """By definition, one limit at a time."""
    return costs.of(np.mean(np.array(defects) <= limit), np.mean(np.array(good) > limit))


@pytest.mark.parametrize("escape", [0.01, 1, 100, 10_000])
def test_the_cheapest_limit_is_the_cheapest_of_all(scores, escape):
    good, defects = scores
    costs = Costs(escape=escape, reject=1, defective=0.05)
    found = cheapest_rate(good, (), defects, costs)
    assert found.cost == pytest.approx(min(cost_of(limit, good, defects, costs) for limit in good))
    assert found.low <= found.rate <= found.high


def test_the_interval_holds_the_middle_90_percent_of_what_resamples_choose():
    """By definition, one resample and one limit at a time, with the same draws; no two limits cost the same."""
    rng = np.random.default_rng(3)
    good, defects, costs = rng.normal(0, 1, 120), rng.normal(0.5, 1, 60), Costs(np.pi * 1.6, 1, 0.1)
    found = cheapest_rate(good, (), defects, costs)
    rng, limits, chosen = np.random.default_rng(0), sorted(good, reverse=True), []
    for _ in range(500):
        drawn = [
            np.repeat(some, rng.multinomial(len(some), np.full(len(some), 1 / len(some)))) for some in (good, defects)
        ]
        cheapest = int(np.argmin([cost_of(limit, *drawn, costs) for limit in limits]))
        chosen.append(share_above(sorted(good), limits[cheapest]))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(chosen, (5, 95))))
    assert np.percentile(chosen, 6) > found.low and np.percentile(chosen, 94) < found.high  # others would be seen


def by_matrices(good, groups, defects, costs, seed):
    """The same by its definition: every limit against every score, in n x n matrices, for each resample."""
    numbers = np.array(groups or range(len(good)))
    scores, found, count = np.array(good), np.array(defects), numbers.max() + 1
    share = 1 / np.bincount(numbers)[numbers]
    limits = np.unique(scores)[::-1]
    above, passed = scores > limits[:, None], found <= limits[:, None]

    def costs_of(of_groups, of_defects):
        rejected = (above * (share * of_groups[numbers])).sum(axis=1) / of_groups.sum()
        return costs.of(np.average(passed, axis=1, weights=of_defects), rejected)

    def rate_of(limit):
        return min(1.0, (1 + share[scores > limit].sum()) / (count + 1))

    rng, again = np.random.default_rng(seed), []
    for _ in range(500):
        drawn = [rng.multinomial(size, np.full(size, 1 / size)) for size in (count, len(found))]
        again.append(rate_of(limits[np.argmin(costs_of(*drawn))]))
    cost = costs_of(np.ones(count), np.ones(len(found)))
    best = np.argmin(cost)
    return Cheapest(rate_of(limits[best]), cost[best], *np.percentile(again, (5, 95)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), units=st.integers(1, 30), several=st.booleans(), steps=st.sampled_from([2, 8, 1000]))
def test_it_is_that_of_the_matrices(seed, units, several, steps):
    """Also with ties, within good scores and with defects; the weights of such groups sum without rounding."""
    rng = np.random.default_rng(seed)
    groups = (
        dense(rng.permutation(np.repeat(range(units), rng.choice([1, 2, 4, 8], units))).tolist()) if several else []
    )
    good = (rng.integers(0, steps, len(groups) or units) / steps).tolist()
    defects = (rng.integers(0, 2 * steps, rng.integers(1, 20)) / steps).tolist()
    costs = Costs(float(rng.choice([0.5, 4, 64])), 1, 0.25)
    assert cheapest_rate(good, groups, defects, costs, seed=seed) == by_matrices(good, groups, defects, costs, seed)


def test_ten_thousand_images_take_seconds_and_little_memory():
    rng = np.random.default_rng(4)
    good, groups = rng.normal(0, 1, 10_000), rng.integers(0, 3000, 10_000).tolist()
    tracemalloc.start()
    began = time.process_time()
    found = cheapest_rate(good.tolist(), groups, rng.normal(3, 1, 200).tolist(), EVEN)
    assert time.process_time() - began < 30
    assert tracemalloc.get_traced_memory()[1] < 2**25  # a matrix of all limits and scores alone has 2^26 bytes
    tracemalloc.stop()
    assert found.low <= found.rate <= found.high


def test_dear_escapes_give_a_lower_limit_than_dear_rejects(scores):
    good, defects = scores
    careful, lax = (
        cheapest_rate(good, (), defects, Costs(escape=escape, reject=reject, defective=0.1)).rate
        for escape, reject in ((1000, 1), (1, 1000))
    )
    assert careful > lax == share_above(sorted(good), max(good))


def test_a_group_of_many_images_weighs_as_one_of_few():
    """The images of one odd group are rejected at the cost of one part, not of fifty."""
    good = [*np.linspace(0, 1, 30), *np.full(50, 3.0)]
    groups = [*range(30), *[30] * 50]
    defects = [2.5] * 4
    assert cheapest_rate(good, groups, defects, EVEN).rate < cheapest_rate(good, (), defects, EVEN).rate


@pytest.mark.slow
def test_few_images_leave_the_rate_open():
    few, many = (
        cheapest_rate(rng.normal(0, 1, 10 * count), (), rng.normal(1.5, 1, count), EVEN)
        for count, rng in ((4, np.random.default_rng(1)), (400, np.random.default_rng(1)))
    )
    assert few.high - few.low > 2 * (many.high - many.low) > 0


@pytest.mark.parametrize("wrong", [{"escape": 0}, {"reject": -1}, {"defective": 0}, {"defective": 1}])
def test_costs_that_are_none_are_refused(wrong):
    with pytest.raises(CalibrationError, match="costs are above 0"):
        Costs(**{"escape": 1.0, "reject": 1.0, "defective": 0.1, **wrong})


def test_costs_without_defects_are_refused(scores):
    with pytest.raises(CalibrationError, match="--defects"):
        cheapest_rate(scores[0], (), (), EVEN)


def test_the_table_says_about_or_at_most_and_marks_what_was_chosen(scores):
    good, defects = scores
    for method, bound in ((None, "at most"), ("cross_conformal", "about")):
        limits = calibrate(good, good, good, false_reject_rate=0.05, method=method)
        columns = [list(column.cells) for column in points_table(limits, defects).columns]
        assert columns[0] == ["2 %", "5 % (chosen)", "10 %", "20 %"]
        assert columns[1][1] == f"{bound} 5 %"
        assert columns[4] == [f"{point.found} of 30" for point in operating_points(good, (), defects, SHOWN_RATES)]
    assert len(points_table(limits).columns) == 4
