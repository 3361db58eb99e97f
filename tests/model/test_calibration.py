"""Thresholds keep the false-reject rate that they guarantee, and say so when they cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.calibration.conformal import (
    CalibrationError,
    calibrate,
    conformal_threshold,
    images_needed,
    raised,
    score_scale,
)
from edgead.calibration.group_conformal import Ranking
from edgead.calibration.plan import choose_rates, plan_calibration


@pytest.mark.parametrize(
    ("rate", "needed"), [(0.5, 1), (0.1, 9), (0.05, 19), (0.02, 49), (0.01, 99), (0.001, 999), (0.07, 14)]
)
def test_images_needed(rate, needed):
    assert images_needed(rate) == needed
    conformal_threshold(np.arange(needed), rate)
    if needed > 1:
        with pytest.raises(CalibrationError, match=f"needs {needed} .* found {needed - 1}"):
            conformal_threshold(np.arange(needed - 1), rate)


def test_threshold_is_the_conformal_rank():
    # n = 99, rate 5 %: rank ceil(100 * 0.95) = 95.
    assert conformal_threshold(np.random.default_rng(0).permutation(99), 0.05) == 94


@given(n=st.integers(1, 300), rate=st.floats(0.01, 0.9))
def test_rank_is_exact(n, rate):
    if n < images_needed(rate):
        return
    below_or_at = np.sum(np.arange(n) <= conformal_threshold(np.arange(n), rate))
    # The next part exceeds the k-th smallest with probability 1 - k / (n + 1): k is the smallest rank that keeps it.
    assert 1 - below_or_at / (n + 1) <= rate + 1e-9
    assert 1 - (below_or_at - 1) / (n + 1) > rate - 1e-9


def test_guarantee_holds_on_average():
    rng = np.random.default_rng(1)
    n, rate, repeats = 60, 0.1, 4000
    scores = rng.lognormal(size=(repeats, n + 1))
    rejected = sum(row[-1] > conformal_threshold(row[:-1], rate) for row in scores)
    # P(reject) = 1 - ceil(61 * 0.9) / 61 = 6 / 61; five standard deviations of the binomial.
    expected = 6 / 61
    assert abs(rejected / repeats - expected) < 5 * math.sqrt(expected * (1 - expected) / repeats)


def test_bad_scores_and_rates():
    with pytest.raises(CalibrationError, match="NaN"):
        conformal_threshold([1.0, math.nan], 0.5)
    for rate in (0, 1, -0.1, 1.5):
        with pytest.raises(CalibrationError, match="between 0 and 1"):
            images_needed(rate)


def test_the_image_that_sets_the_threshold_is_clearly_below_it():
    for sign in (1.0, -1.0):
        scores = sign * np.arange(1.0, 200.0)
        exact = conformal_threshold(scores, 0.05)
        assert exact + 1e-4 * abs(exact) < calibrate(scores, scores, scores, false_reject_rate=0.05).reject < exact + 1


def test_what_marks_pixels_comes_from_the_maxima_at_the_rate_of_rejects():
    """The maxima are in another order than the scores, and in groups of 1 to 4: each other choice is another number."""
    rng = np.random.default_rng(7)
    groups = [group for group in range(40) for _ in range(1 + group % 4)]
    scores = rng.permutation(len(groups)) + 1000.0
    maxima = (rng.permutation(len(groups)) + 1.0) ** 2
    for of in ([], groups):
        made = calibrate(scores, maxima, maxima, false_reject_rate=0.05, review_rate=0.2, groups=of)
        assert made.map_threshold == raised(conformal_threshold(maxima, 0.05, of))
        others = [(maxima, 0.2, of), (scores, 0.05, of), (maxima, 0.05, [] if of else groups)]
        assert made.map_threshold not in [raised(conformal_threshold(*other)) for other in others]


def test_review_is_not_above_reject():
    scores = np.arange(200.0)
    calibration = calibrate(scores, scores, scores, false_reject_rate=0.01, review_rate=0.05)
    assert calibration.review < calibration.reject
    assert calibration.scores == sorted(scores)
    alone = calibrate(scores, scores, scores, false_reject_rate=0.01)
    assert alone.review == alone.reject
    with pytest.raises(CalibrationError, match="review rate"):
        calibrate(scores, scores, scores, false_reject_rate=0.05, review_rate=0.01)


def test_an_error_is_relative_to_the_score_or_to_how_good_scores_differ():
    assert score_scale([-3.0, 0.0, 1.0], [0.0, 1.0, 2.0, 3.0, 4.0]).tolist() == [3, 2, 2]
    assert score_scale([-3.0, 0.0], []).tolist() == [3, 1e-12]


@pytest.mark.parametrize(
    ("images", "rate", "plan"),
    [
        (761, None, (152, 0.05)),
        (200, None, (40, 0.05)),
        (20, None, (4, 0.2)),
        (200, 0.01, (99, 0.01)),
        (5000, 0.01, (1000, 0.01)),
    ],
)
def test_plan(images, rate, plan):
    assert plan_calibration(images, rate) == plan


def test_plan_says_how_many_are_needed():
    with pytest.raises(CalibrationError, match="at least 198 in all, found 100: take 98 more first. .* 0.0197"):
        plan_calibration(100, 0.01)
    plan_calibration(100, 0.0197)  # the rate that the message names works
    with pytest.raises(CalibrationError, match="at least 20 are needed"):
        plan_calibration(19, None)


def test_rates_without_asking():
    """Some good images lie above the limit, so that none of them makes it alone."""
    found = [choose_rates(count, None, None) for count in (1000, 59, 58, 29, 28, 4)]
    assert found == [(0.05, 0.1)] * 2 + [(0.1, 0.1)] * 2 + [(0.2, 0.2)] * 2
    # Of 35 groups of seven images, 5 of the 243 lie above the limit of 5 %; of 30 groups of 31 images none.
    assert choose_rates(243, None, None, groups=35) == (0.05, 0.1)
    assert choose_rates(31, None, None, groups=30) == (0.1, 0.1)
    assert choose_rates(60, None, 0.2) == (0.05, 0.2)


def test_rates_that_are_asked_for():
    assert choose_rates(99, 0.01, None) == (0.01, 0.01)
    assert choose_rates(99, 0.01, 0.1) == (0.01, 0.1)
    with pytest.raises(CalibrationError, match="found 3 good images, but at least 4 are needed .* give 1 more"):
        choose_rates(3, None, None)
    with pytest.raises(CalibrationError, match="found 0 good images, but at least 4 are needed"):
        choose_rates(0, None, None)
    with pytest.raises(CalibrationError, match="needs 99 good images, found 60: take 39 more first. .* 0.0164"):
        choose_rates(60, 0.01, None)
    with pytest.raises(CalibrationError, match="needs 99 groups of good images, found 20"):
        choose_rates(60, 0.01, None, groups=20)
    with pytest.raises(CalibrationError, match="review rate"):
        choose_rates(60, 0.1, 0.05)


def test_p_value_counts_the_good_parts_at_or_above():
    scores = [1.0, 2.0, 2.0, 5.0]
    assert [Ranking(scores).p_value(score) for score in (0.5, 1.0, 2.0, 2.5, 5.0, 6.0)] == [
        1.0,
        1.0,
        0.8,
        0.4,
        0.4,
        0.2,
    ]


@given(st.integers(1, 200))
def test_a_good_part_has_every_p_value_equally_often(n):
    ranks = np.arange(n + 1.0)  # of exchangeable parts each is the last one equally often
    found = [Ranking(np.delete(ranks, last).tolist()).p_value(ranks[last]) for last in range(n + 1)]
    assert sorted(found) == pytest.approx(((ranks + 1) / (n + 1)).tolist())
