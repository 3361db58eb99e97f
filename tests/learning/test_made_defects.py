"""Made defects on good images rank memory banks, left out fold by fold."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.adapt.memory_bank.coreset import BankRule
from edgead.adapt.memory_bank.folds import deal_folds
from edgead.adapt.memory_bank.learn import Space, learn_bank
from edgead.adapt.memory_bank.made import (
    MOST_SCARRED,
    STRENGTHS,
    Scarred,
    Separation,
    choose_scarred,
    left_out_separation,
    scar,
)
from edgead.adapt.methods import patchcore
from edgead.adapt.training.from_folder import train_from_folder
from edgead.adapt.training.good_images import GoodImages
from edgead.cli.advice import advise
from edgead.heads.nearest import NearestHead
from edgead.metrics import auroc


def _textured(rng: np.random.Generator, dtype: str = "uint8") -> np.ndarray:
    return rng.integers(20, 200, (64, 96, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_each_quarter_gets_one_scar_of_its_own_strength(dtype: str) -> None:
    image = _textured(np.random.default_rng(0), dtype)
    before = image.copy()
    made = scar(image, np.random.default_rng(1))
    assert made.dtype == image.dtype and made.shape == image.shape
    np.testing.assert_array_equal(image, before)
    changed = np.abs(made.astype(float) - image).max(axis=2)
    quarters = [changed[y : y + 32, x : x + 48] for y in (0, 32) for x in (0, 48)]
    assert all(0 < np.count_nonzero(one) < 0.3 * one.size for one in quarters)
    assert len({round(float(one[one > 0].mean()), 2) for one in quarters}) == len(STRENGTHS)
    np.testing.assert_array_equal(scar(image, np.random.default_rng(1)), made)


def test_scars_lie_on_the_part_and_not_on_what_is_behind_it() -> None:
    rng = np.random.default_rng(2)
    image = np.full((128, 128, 3), 10, np.uint8)
    image[32:96, 32:96] = _textured(rng)[:, :64]
    touched = np.zeros((128, 128), bool)
    touched[32:96, 32:96] = True
    on_part = [np.abs(scar(image, rng).astype(int) - image).max(axis=2) > 0 for _ in range(40)]
    # A quarter of the image is part; of places drawn alike a quarter would lie there.
    assert np.mean([one[touched].sum() / one.sum() for one in on_part]) > 0.5


def test_one_image_of_each_group_is_scarred_before_another_of_any() -> None:
    groups = np.repeat(np.arange(MOST_SCARRED - 5), 9)
    chosen = choose_scarred(groups, 3)
    assert len(chosen) == MOST_SCARRED == len(set(chosen.tolist()))
    counts = np.bincount(groups[chosen], minlength=MOST_SCARRED - 5)
    assert counts.min() == 1 and counts.max() == 2
    assert choose_scarred([0, 1, 2], 3).tolist() == [0, 1, 2]


def test_a_bank_that_sees_the_defect_separates_better_than_one_that_does_not() -> None:
    rng = np.random.default_rng(4)
    count, grid, width = 24, (8, 8), 6
    good = rng.normal(size=(count, *grid, width)).astype(np.float32)
    seen, unseen = good.copy(), good + 1e-3 * rng.normal(size=good.shape).astype(np.float32)
    seen[:, 1::4, 1::4] += 6.0
    folds = deal_folds(range(count), 0)
    learnt = learn_bank(
        good.reshape(-1, width).copy(), range(count), folds, BankRule(1.0, 200), Space((3, 3), damps=False)
    )
    pick, head = choose_scarred(range(count), 0), NearestHead(folds=learnt.folds, own_metrics=True)
    better = left_out_separation(learnt, head, Scarred(pick, good[pick], seen[pick]), folds)
    chance = left_out_separation(learnt, head, Scarred(pick, good[pick], unseen[pick]), folds)
    assert better.auroc > 0.95
    assert 0.4 < chance.auroc < 0.6
    difference, error = better.above(chance)
    assert difference == pytest.approx(better.auroc - chance.auroc)
    assert 0 < error < difference / 4


def test_the_error_of_a_separation_is_what_other_images_would_give() -> None:
    """The deviation over draws of images, against the error that one draw gives of itself."""
    rng, found = np.random.default_rng(5), []
    for _ in range(300):
        good, made = rng.normal(size=30), rng.normal(size=30) + 1
        wins = (made[None, :] > good[:, None]).astype(float)
        one = Separation(wins.mean(axis=0) + wins.mean(axis=1) - wins.mean())
        assert one.auroc == pytest.approx(auroc([0] * 30 + [1] * 30, np.concatenate([good, made])))
        found.append((one.auroc, float(one.of_image.std(ddof=1) / np.sqrt(30))))
    aurocs, errors = zip(*found, strict=True)
    assert np.mean(errors) == pytest.approx(np.std(aurocs), rel=0.2)


@pytest.mark.parametrize("noise, precision", [(0.0, "int8"), (3.0, "fp32")])
def test_auto_leaves_int8_out_where_it_sees_fewer_made_defects(line_data, tmp_path, monkeypatch, noise, precision):
    """The int8 graph gives features with noise of so many of their deviations."""
    rng, each_raw = np.random.default_rng(6), patchcore.each_raw

    def disturbed(backbone, spec, images):
        for features in each_raw(backbone, spec, images):
            amount = noise * features.std(axis=(0, 1)) * (backbone.precision == "int8")
            yield features + amount * rng.standard_normal(features.shape).astype(np.float32)

    monkeypatch.setattr(patchcore, "each_raw", disturbed)
    monkeypatch.setattr(patchcore.kernels, "gains_by_int8", lambda: True)
    settings = {"backbone": "efficientnet_lite0", "image_size": (160, 160), "memory_bank_size": 500}
    good = GoodImages(line_data, false_reject_rate=0.1)
    artifact, _ = train_from_folder(good, tmp_path / "model", settings, precision="auto")
    assert artifact.manifest.learnt_in == artifact.manifest.precision == precision
    said = [line for line in advise(artifact, line_data, False) if line.startswith("Frames run in fp32: int8 tells")]
    assert len(said) == (precision == "fp32")
