"""Operating points: what limits reject and find, the cheapest of them, and the table that is printed of them."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.calibration.conformal import CalibrationError, calibrate, conformal_threshold, raised, share_above
from edgead.calibration.operating_point import SHOWN_RATES, Costs, cheapest_rate, operating_points
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
