"""Damping by evidence: lengths of patches count where made defects show by them, and not where good parts vary so."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from edgead.adapt.memory_bank.coreset import BankRule
from edgead.adapt.memory_bank.damping import FEWEST_SCARRED, MARGIN, Damping, compare_damping
from edgead.adapt.memory_bank.folds import deal_folds
from edgead.adapt.memory_bank.learn import Space, learn_bank
from edgead.adapt.memory_bank.made import Scarred
from edgead.adapt.methods.patchcore import PatchCore, PatchCoreConfig
from edgead.heads.nearest import NearestHead

IMAGES, GRID, CHANNELS = 40, 8, (6, 6)
HEAD = NearestHead(window=1, top_patches=1, margin=0)


def small(damp_length: bool | Literal["auto"]) -> PatchCoreConfig:
    return PatchCoreConfig(
        backbone="efficientnet_lite0", image_size=(64, 64), damp_length=damp_length, memory_bank_size=50
    )


def raw_features(rng: np.random.Generator, light: float) -> np.ndarray:
    """Grids of a few patterns with noise; each image is brighter or darker by up to `light` octaves."""
    patterns = rng.normal(size=(5, sum(CHANNELS)))
    shown = patterns[rng.integers(0, 5, (IMAGES, GRID, GRID))] + 0.1 * rng.normal(size=(IMAGES, GRID, GRID, 12))
    return (shown * 2 ** rng.uniform(-light, light, (IMAGES, 1, 1, 1))).astype(np.float32)


def compare(good: np.ndarray, made: np.ndarray) -> Damping:
    folds = deal_folds(range(IMAGES), 0)
    banks = [
        learn_bank(good.reshape(-1, 12).copy(), range(IMAGES), folds, BankRule(1.0, 500), Space(CHANNELS, damps))
        for damps in (True, False)
    ]
    head = HEAD.model_copy(update={"folds": banks[0].folds, "own_metrics": True})
    return compare_damping(*banks, head, Scarred(np.arange(IMAGES), good, made), folds)


def test_defects_that_are_louder_than_good_patches_are_found_by_lengths():
    rng = np.random.default_rng(0)
    good = raw_features(rng, light=0.0)
    made = good.copy()
    made[:, 1::4, 1::4] *= 1.4  # a patch or more in each quarter
    found = compare(good, made)
    assert found.plain > found.damped
    assert not found.damps


def test_lengths_are_damped_where_light_varies_and_defects_are_other_patterns():
    rng = np.random.default_rng(1)
    good = raw_features(rng, light=1.5)
    made, other = good.copy(), rng.normal(size=sum(CHANNELS))
    loudness = np.linalg.norm(made[:, 1::4, 1::4], axis=-1, keepdims=True)
    made[:, 1::4, 1::4] += loudness * (other / np.linalg.norm(other)).astype(np.float32)
    found = compare(good, made)
    assert found.damped > found.plain
    assert found.damps


def test_in_doubt_lengths_are_damped():
    assert Damping(damped=0.8, plain=0.8, error=2 * MARGIN).damps
    assert not Damping(damped=0.8, plain=0.8, error=MARGIN / 2).damps
    assert not Damping(damped=0.8, plain=0.9, error=0.05).damps
    assert Damping(damped=0.8, plain=0.7, error=0.0).damps


@pytest.mark.parametrize(("damp_length", "count"), [("auto", FEWEST_SCARRED - 1), (True, 24), (False, 24)])
def test_nothing_is_compared_with_few_images_or_where_the_choice_is_made(damp_length, count):
    method = PatchCore(small(damp_length))
    images = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    trained = method.fit(images)
    assert "damping" not in trained.notes
    assert method.learnt is not None
    assert method.learnt.scale.damps is (damp_length is not False)


def test_the_choice_stands_in_the_manifest():
    method = PatchCore(small("auto"))
    trained = method.fit(np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8))
    assert method.learnt is not None
    assert trained.notes["damping"]["damps"] is method.learnt.scale.damps
    assert trained.settings["damp_length"] == "auto"


def test_a_bank_that_takes_the_scale_of_another_is_the_same():
    patches = raw_features(np.random.default_rng(0), light=0.0).reshape(-1, sum(CHANNELS))
    folds, rule = deal_folds(range(IMAGES), 0), BankRule(1.0, 50)
    damped = learn_bank(patches.copy(), range(IMAGES), folds, rule, Space(CHANNELS, damps=True))
    plain = Space(CHANNELS, damps=False)
    fitted = learn_bank(patches.copy(), range(IMAGES), folds, rule, plain)
    given = learn_bank(patches.copy(), range(IMAGES), folds, rule, plain, scale=damped.scale)
    assert not given.scale.damps
    assert (given.metric == fitted.metric).all()
    assert all((given.arrays[name] == fitted.arrays[name]).all() for name in fitted.arrays)
