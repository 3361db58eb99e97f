"""Light that is learnt: its changes count for less, in the metric of each fold without what the fold shows of it."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.adapt.memory_bank.coreset import BankRule
from edgead.adapt.memory_bank.feature_space import FeatureScale, fit_metric
from edgead.adapt.memory_bank.learn import Space, learn_bank
from edgead.adapt.memory_bank.light import Lit, lit
from edgead.adapt.methods.patchcore import PatchCore, PatchCoreConfig
from edgead.artifact.inputs import Preprocessing, Range
from edgead.errors import SettingsError

IMAGES, PER_IMAGE, WIDTH = 20, 60, 8


def patches() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(IMAGES * PER_IMAGE, WIDTH)).astype(np.float32)


def changes(direction: int, images: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """What light changes in the first images, along one direction."""
    rows = 0.01 * np.random.default_rng(1).normal(size=(images, PER_IMAGE, WIDTH))
    rows[..., direction] += 1
    return np.arange(images), rows.astype(np.float32)


def gains(metric: np.ndarray) -> np.ndarray:
    return np.linalg.norm(metric, axis=1)


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_what_light_changes_counts_for_less_however_strong_its_change_is(strength):
    images, rows = changes(5)
    found = gains(fit_metric(patches(), range(IMAGES), light=(images, strength * rows)).matrix)
    plain = gains(fit_metric(patches(), range(IMAGES)).matrix)
    assert found[5] / plain[5] < 0.9 * np.delete(found / plain, 5).min()


def test_a_fold_is_left_out_with_its_light():
    images, rows = changes(5, images=1)
    folds = np.arange(IMAGES) % 2  # the image that shows other light is in fold 0
    plain, found = (fit_metric(patches(), range(IMAGES), folds=folds, light=each) for each in (None, (images, rows)))
    without = [
        [gains(one.matrix @ one.without[fold * WIDTH : (fold + 1) * WIDTH])[5] for fold in (0, 1)]
        for one in (plain, found)
    ]
    assert without[1][0] == pytest.approx(without[0][0], rel=1e-3)
    assert without[1][1] < 0.9 * without[0][1]


def test_changes_are_taken_on_the_scale_of_the_bank():
    scale = FeatureScale(np.zeros(2, np.float32), np.array([1, 2], np.float32), np.ones(1, np.float32), (2,), False)
    good, others = np.ones((1, 2, 2, 2), np.float32), np.full((2, 1, 2, 2, 2), 1.5, np.float32)
    np.testing.assert_array_equal(Lit(np.array([0]), good, others).changes(scale), np.tile([0.5, 1.0], (1, 8, 1)))
    assert (good == 1).all() and (others == 1.5).all()


def test_a_bank_of_one_group_takes_light_and_stays_as_it_was():
    rows = patches()[:PER_IMAGE]
    light = Lit(np.array([0]), np.zeros((1, 2, 2, WIDTH), np.float32), np.ones((2, 1, 2, 2, WIDTH), np.float32))
    with_it, without = (
        learn_bank(rows.copy(), [0], [0], BankRule(1.0, 20), Space((WIDTH,)), lit=each) for each in (light, None)
    )
    np.testing.assert_array_equal(with_it.metric, without.metric)


def test_an_image_is_brighter_darker_and_of_bytes():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert lit(image, 0.9).max() == 230 and lit(image, 1.1).min() == 0 and lit(image, 1.1).max() == 255
    assert lit(image, 1.1).dtype == np.uint8 and image.max() == 255


@pytest.mark.parametrize("learns", [True, False])
def test_brighter_parts_stay_nearer_to_the_bank_where_light_is_learnt(learns, monkeypatch):
    rng, steps = np.random.default_rng(3), np.linspace(60, 180, 64)[None, :, None]
    images = [np.clip(steps + rng.normal(0, 6, (64, 64, 3)), 0, 255).astype(np.uint8) for _ in range(24)]
    bright = [lit(image, 1.1) for image in images[20:]]
    settings = PatchCoreConfig(
        backbone="efficientnet_lite0", image_size=(64, 64), damp_length=True, learn_light=learns, memory_bank_size=200
    )
    farther = []
    for brightness in ((1.0, 1.0), (0.9, 1.1)):
        monkeypatch.setattr("edgead.adapt.methods.patchcore.BRIGHTNESS", brightness)
        method = PatchCore(settings)
        method.fit(images[:20])
        bank = method.arrays["memory_bank"]
        near = [
            np.linalg.norm(method.outputs_of(one)["features"].reshape(-1, 1, bank.shape[1]) - bank, axis=2).min(axis=1)
            for one in (*images[20:], *bright)
        ]
        farther.append(np.mean(near[4:]) / np.mean(near[:4]))
    assert farther[1] == farther[0] if not learns else farther[1] < 0.97 * farther[0]


def test_light_is_of_colours_and_of_the_metric():
    with pytest.raises(SettingsError, match="leave out whiten=false"):
        PatchCoreConfig(learn_light=True, whiten=False)
    depth = Preprocessing(image_size=(64, 64), colour="grey16", grey16=Range(low=0, high=4095))
    with pytest.raises(SettingsError, match="these images have depth"):
        PatchCore(PatchCoreConfig(learn_light=True)).prepared(depth)
