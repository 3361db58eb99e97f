"""Limits that would let pass what a model was made to stop are doubted, and honest ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.blind import MEASURED, OWN_BAD, OWN_GOOD, Images, Model, foreign_table, own_table
from edgead.adapt.finalize import GoodScores
from edgead.artifact.manifest import Calibration
from edgead.calibration.blind import FAR, HIGHER, doubts, rise, shift
from edgead.calibration.conformal import calibrate

# Scores of good parts that a model was made from, and half of them as the usual level of a map.
USUAL, SPREAD = 0.75, 0.04


def scored(scores, *, medians: float = USUAL / 2) -> GoodScores:
    values = [float(score) for score in scores]
    return GoodScores(values, values, [medians] * len(values))


def good_scores(count: int, *, seed: int = 0, shifted: float = 0.0) -> np.ndarray:
    return USUAL + SPREAD * (np.random.default_rng(seed).normal(size=count) + shifted)


def made(count: int = 60, rate: float = 0.05, **options) -> Calibration:
    return scored(good_scores(count)).calibrate(rate, None, **options)


def doubts_of(before: Calibration, good: GoodScores, rate: float = 0.2, groups=(), **options) -> list[str]:
    after = good.calibrate(rate, None, groups=groups)
    return doubts(before, after.reject, good.scores, good.medians, groups, **options)


@pytest.mark.parametrize("count", [4, 10, 40])
@pytest.mark.parametrize("old", [6, 20, 240])
def test_good_parts_like_the_old_ones_are_seldom_doubted(old, count):
    found = []
    for seed in range(0, 400, 2):
        before = scored(good_scores(old, seed=seed)).calibrate(0.15 if old == 6 else 0.05, None)
        found.append(bool(doubts_of(before, scored(good_scores(count, seed=seed + 1)))))
    # Chance alone puts three of 4 new ones above all of 6 old ones in 3 % of the sets.
    assert np.mean(found) <= (0.08 if old == 6 else 0.02)


@pytest.mark.parametrize("count", [4, 10, 40])
@pytest.mark.parametrize("old", [6, 20, 240])
def test_other_products_are_doubted_however_few_they_are(old, count):
    """The test of two samples finds p = 0.011 for 4 images against 6, however far apart they are."""
    before = made(old, 0.15 if old == 6 else 0.05)
    other = scored(good_scores(count, seed=9, shifted=14))
    found = doubts_of(before, other)
    assert f"rejects {count} of the {count} images" in found[0]
    assert "deviations above that of good parts" in found[1] and "the limit would rise from" in found[2]
    far = scored(other.scores, medians=3 * USUAL / 2)
    assert "all of them is 3.0 times as far from what is good as usual: another product?" in doubts_of(before, far)


def test_each_doubt_has_its_bound():
    before = scored(np.linspace(0.6, 0.9, 61)).calibrate(0.05, None)
    usual, spread = 0.75, 1.4826 * 0.075
    at = usual + FAR * spread
    assert shift(before, [at] * 5) == pytest.approx(FAR) and FAR == 3
    assert any("median score" in one for one in doubts_of(before, scored([at + 1e-6] * 5)))
    assert not any("median score" in one for one in doubts_of(before, scored([at - 1e-6] * 5)))
    # Three of five are most; two of four are not.
    high, low = before.reject + 1e-6, usual
    assert "rejects 3 of the 5 images" in doubts_of(before, scored([high] * 3 + [low] * 2))[0]
    assert doubts_of(before, scored([high] * 2 + [low] * 2)) == []
    highest = before.scores[-1] + HIGHER * spread
    for limit, expected in ((highest + 1e-6, 1), (highest - 1e-6, 0)):
        after = before.model_copy(update={"reject": limit})
        assert rise(before, after.reject) == pytest.approx(HIGHER, abs=1e-4)
        assert len(doubts(before, after.reject)) == expected  # as of a limit that was set by hand


def test_a_few_defects_among_good_parts_raise_the_limit():
    """A third of them: their median is that of good parts, and no gap sets them apart from the others."""
    mixed = [*good_scores(20, seed=3), *np.linspace(USUAL, USUAL + 14 * SPREAD, 10)]
    assert [one[:21] for one in doubts_of(made(), scored(mixed), 0.05)] == ["the limit would rise "]


def test_a_stricter_rate_or_a_lower_limit_is_no_doubt():
    before = made(240, 0.2)
    honest = scored(good_scores(240, seed=4))
    assert doubts_of(before, honest, 0.005) == []
    assert doubts_of(before, scored(np.array(honest.scores) / 2), 0.05) == []
    by_hand = before.model_copy(update={"reject": before.reject * 2, "method": "by_hand"})
    assert doubts_of(by_hand, honest, 0.05) == []


def test_one_odd_map_is_no_other_product():
    honest = [float(score) for score in good_scores(10, seed=4)]
    assert doubts_of(made(), GoodScores(honest, honest, [USUAL / 2] * 9 + [90 * USUAL])) == []


def test_a_group_counts_as_one():
    """One part, taken thirty times, is rejected; the nine others are not."""
    before = made()
    rejected = good_scores(30, seed=5, shifted=4)
    scores = scored([*rejected, *good_scores(9, seed=6)])
    groups = [0] * 30 + list(range(1, 10))
    assert any("rejects" in one for one in doubts_of(before, scores))
    assert not any("rejects" in one or "median" in one for one in doubts_of(before, scores, groups=groups))


def test_scores_that_are_no_distances_have_deviations_too():
    before = scored(good_scores(60) - USUAL).calibrate(0.05, None)
    assert any("deviations" in one for one in doubts_of(before, scored(good_scores(10, seed=2, shifted=9) - USUAL)))
    assert doubts_of(before, scored(good_scores(10, seed=2) - USUAL)) == []


def test_without_old_scores_only_the_look_of_the_images_counts():
    before = Calibration.none_yet(1.0, 0.5)
    high = scored(good_scores(10, shifted=90))
    assert doubts_of(before, high) == []
    assert doubts_of(before, high, unlike=["9 of 10 images have other proportions"]) == [
        "9 of 10 images have other proportions"
    ]


def test_equal_scores_have_a_spread():
    before = calibrate([1.0] * 20, [1.0] * 20, [0.5] * 20, false_reject_rate=0.05)
    assert doubts_of(before, scored([1.0005] * 10)) == []
    assert doubts_of(before, scored([1.1] * 10)) != []


def measured(scores, *, per_group: int = 1) -> Images:
    """What the benchmark keeps of images of 60 x 80 px."""
    found = np.asarray(scores, np.float64)
    groups = np.arange(len(found)) // per_group
    return Images(np.column_stack([found, found, found / 2, *np.tile([[60], [80]], len(found)), groups]))


def test_the_benchmark_draws_whole_groups_and_counts_what_is_taken():
    pile = measured(range(40), per_group=4)
    for count in (1, 10, 40):
        drawn = pile.draw_groups(np.random.default_rng(0), count)
        # Four groups support 20 %, the loosest rate that is offered.
        assert len(drawn.rows) >= max(count, 16) and set(np.bincount(drawn.groups)) <= {0, 4}
    far, good = measured(good_scores(MEASURED, shifted=14)), measured(good_scores(MEASURED, seed=2))
    model, own_images = Model(made(), good.looks[:3], stretched=True), {OWN_GOOD: good, OWN_BAD: far}
    piles = {"here": {**own_images, "there": far}, "there": {**own_images, "here": good}}
    foreign = "\n".join(foreign_table({"here": model, "there": model}, piles))
    assert "| here | there | 20 of 20 | 20 of 20 | 20 of 20 |" in foreign
    assert "| there | here | 0 of 20 | 0 of 20 | 0 of 20 |" in foreign and "60 of 120 taken" in foreign
    own = own_table({"here": model}, piles)
    assert own[2].startswith("| here | 0 doubted |") and "| 20 of 20 | 20 of 20 |" in own[2]
