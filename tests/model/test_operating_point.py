"""Operating points: what limits reject and find, and the table that is printed of them."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.calibration.conformal import calibrate, conformal_threshold, raised
from edgead.calibration.operating_point import SHOWN_RATES, operating_points
from edgead.cli.advice import points_table


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


def test_the_table_says_about_or_at_most_and_marks_what_was_chosen(scores):
    good, defects = scores
    for method, bound in ((None, "at most"), ("cross_conformal", "about")):
        limits = calibrate(good, good, good, false_reject_rate=0.05, method=method)
        columns = [list(column.cells) for column in points_table(limits, defects).columns]
        assert columns[0] == ["2 %", "5 % (chosen)", "10 %", "20 %"]
        assert columns[1][1] == f"{bound} 5 %"
        assert columns[4] == [f"{point.found} of 30" for point in operating_points(good, (), defects, SHOWN_RATES)]
    assert len(points_table(limits).columns) == 4
