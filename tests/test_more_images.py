"""What more good images would bring: the forecast of the limit, the halves that it comes from, and its sentence."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgead.adapt.memory_bank.coreset import BankRule
from edgead.adapt.memory_bank.halves import learn_halves
from edgead.calibration.conformal import conformal_threshold
from edgead.calibration.more_images import DAMPING, ERROR, WIDEST, forecast


def scores_of(count: int, rng: np.random.Generator, level: float = 1.0, spread: float = 0.05) -> np.ndarray:
    return level * np.exp(spread * rng.normal(size=count))


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_the_interval_holds_what_twice_as_many_images_do(rate):
    """Scores that fall as the forecast assumes: nine limits in ten, and more, lie within."""
    within, rng = 0, np.random.default_rng(0)
    for repeat in range(60):
        step = -0.1
        halves = scores_of(20, rng)
        left_out = halves * np.exp(step + 0.01 * rng.normal(size=20))
        new = scores_of(20, rng, np.exp(step))
        both = np.concatenate([left_out, new]) * np.exp(DAMPING * step + ERROR * rng.normal())
        found = forecast(left_out, halves, rate, learnt_share=1.0, seed=repeat)
        assert found is not None and found.images == 40 and found.low < found.fall < found.high
        fall = 1 - conformal_threshold(both, rate) / conformal_threshold(left_out, rate)
        within += found.low <= fall <= found.high
    assert within >= 49


def test_the_steeper_the_scores_fell_the_further_they_will():
    rng = np.random.default_rng(1)
    left_out = scores_of(30, rng, spread=0.02)
    falls = [forecast(left_out, left_out * more, 0.1, learnt_share=0.9) for more in (1.0, 1.2, 1.5)]
    assert falls[0].fall < 0.02 < falls[1].fall < falls[2].fall
    # of nine tenths, a fall is that of less than a doubling
    assert falls[2].fall < forecast(left_out, left_out * 1.5, 0.1, learnt_share=0.7).fall


def test_what_cannot_be_known_is_not_said():
    rng = np.random.default_rng(2)
    few, many = scores_of(7, rng), scores_of(20, rng)
    assert forecast(few, few, 0.2, learnt_share=0.9) is None
    assert forecast(many, many, 0.04, learnt_share=0.9) is None  # 24 images would support that rate
    assert forecast(many - many.min(), many, 0.2, learnt_share=0.9) is None
    wild = scores_of(20, rng, spread=0.6)
    assert forecast(wild, wild, 0.05, learnt_share=0.9) is None
    sure = forecast(many, many, 0.05, learnt_share=0.9)
    assert sure is not None and sure.high - sure.low <= WIDEST


@pytest.mark.parametrize("whiten", [True, False])
def test_a_half_has_not_learnt_the_images_that_it_scores(whiten):
    rng = np.random.default_rng(3)
    groups = np.repeat(range(6), 2)
    images = rng.normal(size=(12, 30, 4)).astype(np.float32)
    patches = images.reshape(-1, 4)
    strangers, halves = learn_halves(patches, groups, BankRule(1.0, 1000), whiten=whiten)
    assert np.bincount(strangers).tolist() == [6, 6]
    assert all(len(set(strangers[groups == group])) == 1 for group in range(6))
    for image, stranger in zip(images, strangers.tolist(), strict=True):
        assert halves[stranger].patch_scores(image).min() > 1e-3  # none of its patches is in that bank
        assert halves[1 - stranger].patch_scores(image).max() < 1e-3  # and all are in the other
    assert all((half.metric is not None) == whiten for half in halves)


@pytest.mark.parametrize(
    ("low", "fall", "high", "said"),
    [
        (0.03, 0.08, 0.12, "would be about 8 % lower (9 times in 10 between 12 % lower and 3 % lower)."),
        (-0.12, -0.08, 0.004, "would be about 8 % higher (9 times in 10 between as it is and 12 % higher)."),
        (-0.02, 0.001, 0.04, "would be about as it is (9 times in 10 between 4 % lower and 2 % higher)."),
    ],
)
def test_the_sentence(low, fall, high, said):
    pytest.importorskip("typer", reason="needs the command's packages")
    from edgead.cli.advice import _of_more_images

    facts = {"more_images": {"images": 40, "fall": fall, "low": low, "high": high}}
    artifact = SimpleNamespace(manifest=SimpleNamespace(training=facts))
    assert _of_more_images(artifact) == [f"With 40 good images instead of 20, the limit {said}"]
    assert _of_more_images(SimpleNamespace(manifest=SimpleNamespace(training={}))) == []
