"""The guarantee for groups: what it equals without groups, that it holds, and that images as units break it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.artifact.manifest import Calibration
from edgead.calibration.conformal import (
    CalibrationError,
    calibrate,
    conformal_threshold,
    images_needed,
    raised,
    share_above,
)
from edgead.calibration.group_conformal import Ranking, group_threshold, one_of_each
from edgead.calibration.plan import GROUPS, plan_calibration
from edgead.metrics import Rate
from edgead.metrics.rates import worth

scores_of = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=60)


@given(scores_of, st.floats(0.02, 0.9), st.floats(-100, 100))
def test_groups_of_one_are_plain_conformal_prediction(scores, rate, score):
    groups = list(range(len(scores)))
    ascending = sorted(scores)
    assert Ranking(ascending, groups).p_value(score) == Ranking(ascending).p_value(score)
    assert share_above(ascending, score, groups) == share_above(ascending, score)
    assert Ranking(ascending).share_above(score) == share_above(ascending, score)
    if len(scores) >= images_needed(rate):
        plain = conformal_threshold(scores, rate)
        assert conformal_threshold(scores, rate, groups) == plain
        assert group_threshold(np.array(scores), groups, rate) == plain
        assert calibrate(scores, scores, scores, false_reject_rate=rate, groups=groups) == calibrate(
            scores, scores, scores, false_reject_rate=rate
        )


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 20)), min_size=9, max_size=60), st.floats(0.12, 0.9))
def test_the_threshold_by_its_definition(pairs, rate):
    groups, scores = [g for g, _ in pairs], [float(s) for _, s in pairs]
    count = len(set(groups))
    if count < images_needed(rate):
        return
    weight = {group: 1 / ((count + 1) * groups.count(group)) for group in set(groups)}
    reaching = (s for s in sorted(set(scores)) if sum(weight[g] for g, t in pairs if t <= s) >= 1 - rate - 1e-9)
    assert conformal_threshold(scores, rate, groups) == next(reaching)
    ascending = sorted(range(len(scores)), key=scores.__getitem__)
    ranking = Ranking([scores[i] for i in ascending], [groups[i] for i in ascending])
    expected = 1 / (count + 1) + sum(weight[g] for g, s in pairs if s >= 10)
    assert ranking.p_value(10) == pytest.approx(expected)
    assert ranking.share_above(10) == pytest.approx(expected - sum(weight[g] for g, s in pairs if s == 10))


def draw_groups(rng, count):
    """Groups that differ far more than the images of one do, of 1, 2 or 12 images; those of many score lower."""
    sizes = rng.choice([1, 2, 12], size=count)
    numbers = np.repeat(np.arange(count), sizes)
    return rng.normal(-0.15 * sizes)[numbers] + 0.2 * rng.normal(size=numbers.size), numbers


def test_a_part_of_a_new_group_is_rejected_as_rarely_as_said_and_images_as_units_break_it():
    rng = np.random.default_rng(0)
    rate, count, repeats = 0.1, 20, 2000
    by_group, by_image, strict, p_values = [], [], [], []
    for _ in range(repeats):
        scores, numbers = draw_groups(rng, count + 1)
        known = numbers < count
        new = float(rng.choice(scores[~known]))
        order = np.argsort(scores[known])
        ranking = Ranking(scores[known][order].tolist(), numbers[known][order].tolist())
        p_values.append(ranking.p_value(new))
        by_group.append(new > conformal_threshold(scores[known], rate, numbers[known].tolist()))
        by_image.append(new > conformal_threshold(scores[known], rate))
        strict.append(new > conformal_threshold(scores[known], 1 / (1 + known.sum())))

    def highest(level):
        return level + 3 * math.sqrt(level * (1 - level) / repeats)

    assert rate / 2 <= np.mean(by_group) <= highest(rate)
    for level in (0.1, 0.2, 0.5):
        assert np.mean(np.array(p_values) <= level) <= highest(level)
    assert np.mean(by_image) > highest(rate)
    # The strictest rate that so many images seem to support: about 1 % for 100 of them.
    assert np.mean(strict) > highest(0.015)


def test_thresholds_of_groups_keep_their_groups():
    groups = [i // 3 for i in range(60)]
    scores = [float((7 * i) % 60) for i in range(60)]
    made = calibrate(scores, scores, scores, false_reject_rate=0.1, review_rate=0.2, groups=groups)
    assert made.method == "group_conformal"
    assert made.scores == sorted(scores)
    assert [groups[scores.index(score)] for score in made.scores] == made.groups
    assert made.review <= made.reject == raised(conformal_threshold(scores, 0.1, groups))
    cross = calibrate(scores, scores, scores, false_reject_rate=0.1, groups=groups, method="cross_validated")
    assert cross.method == "cross_validated" and cross.groups == made.groups
    with pytest.raises(ValueError, match="60 scores have 2 groups"):
        Calibration(**{**made.model_dump(), "groups": [0, 1]})
    with pytest.raises(CalibrationError, match="needs 99 held-out groups of good images, found 20: take 79 more first"):
        calibrate(scores, scores, scores, false_reject_rate=0.01, groups=groups)


def test_the_plan_counts_groups():
    assert plan_calibration(112, None, what=GROUPS) == (22, 0.05)
    with pytest.raises(CalibrationError, match="needs 99 groups of good images held out .* found 112: .* 0.0176"):
        plan_calibration(112, 0.01, what=GROUPS)
    assert plan_calibration(112, 0.0176, what=GROUPS) == (56, 0.0176)


def test_one_score_of_each_group():
    assert one_of_each([3.0, 1.0, 2.0], []) == [3.0, 1.0, 2.0]
    drawn = [tuple(one_of_each([0.0, 1.0, 2.0, 3.0], [0, 0, 1, 1], seed=seed)) for seed in range(60)]
    assert set(drawn) == {(0.0, 2.0), (0.0, 3.0), (1.0, 2.0), (1.0, 3.0)}


def test_intervals_know_of_groups():
    events = [g < 6 for g in range(30) for _ in range(10)]
    groups = [g for g in range(30) for _ in range(10)]
    alone, together = Rate.of(60, 300), Rate.of_groups(events, groups)
    assert (together.count, together.total, together.groups) == (60, 300, 30)
    # All images of a group agree: they are worth about as many images as there are groups.
    thirty = Rate.of(6, 30)
    assert together.low < alone.low and together.high > alone.high
    assert (together.low, together.high) == pytest.approx((thirty.low, thirty.high), abs=0.02)
    # How 30 shares differ is estimated with 29 degrees of freedom.
    assert worth(events, groups) == pytest.approx(29)
    assert Rate.of_groups(events, list(range(300))) == Rate.of_groups(events) == alone
    none = Rate.of_groups([False] * 300, groups)
    assert (none.low, none.high) == (0, Rate.of(0, 30).high)
    assert Rate.of_groups([True] * 4, [0, 0, 0, 0]).high == 1


def test_the_interval_of_groups_covers():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        numbers = np.repeat(np.arange(40), rng.integers(1, 8, size=40))
        events = rng.random(40)[numbers] < rng.normal(0.3, 0.03, size=numbers.size)
        found = Rate.of_groups(events.tolist(), numbers.tolist())
        covered += found.low <= 0.3 <= found.high
    assert covered >= 0.91 * 200  # stated: 95 %; three standard deviations below are 90.4 %
