"""Good images that are learnt once more, changed."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.methods.patchcore.detector import CHANGES, Augmented, PatchCore, PatchCoreConfig  # noqa: E402

IMAGE = np.random.default_rng(0).integers(40, 180, (48, 64, 3), np.uint8)


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_images_are_like_the_image_and_not_the_same(kind):
    changed = list(Augmented([IMAGE], (kind,)))
    np.testing.assert_array_equal(changed[0], IMAGE)
    for one in changed[1:]:
        assert (one.shape, one.dtype, one.flags.c_contiguous) == (IMAGE.shape, np.uint8, True)
        assert not np.array_equal(one, IMAGE)
    assert len({one.tobytes() for one in changed}) == len(changed) == 1 + len(CHANGES[kind])


def test_each_image_is_followed_by_its_changes():
    images = [IMAGE, 255 - IMAGE]
    changed = Augmented(images, ("flips",))
    assert (len(changed), changed.per_image) == (8, 4)
    np.testing.assert_array_equal(changed[4], images[1])
    np.testing.assert_array_equal(changed[5], images[1][:, ::-1])


def test_without_kinds_images_stay_as_they_are():
    assert len(Augmented([IMAGE, IMAGE], ())) == 2


@pytest.mark.parametrize("kinds", [("noise",), ("auto", "flips")])
def test_what_is_no_kind_is_refused(kinds):
    with pytest.raises(SettingsError, match="choose from flips, .* or auto alone"):
        PatchCoreConfig(augment=kinds)


def test_a_memory_bank_knows_the_changed_images():
    settings = {"image_size": [64, 64], "backbone": "efficientnet_lite0", "augment": ["flips"], "by_place": False}
    method = PatchCore.from_settings(settings, pretrained=False)
    image = np.ascontiguousarray(IMAGE[:, :48].repeat(2, axis=0)[:64].repeat(2, axis=1)[:, :64])
    bank = method.fit([image]).arrays["memory_bank"]
    assert len(bank) == 4 * 8 * 8
    with torch.inference_mode():
        flipped = method.network(torch.from_numpy(image[:, ::-1].copy())[None])[0].numpy().reshape(64, -1)
    nearest = np.linalg.norm(bank[None] - flipped[:, None], axis=2).min(axis=1)
    assert nearest.max() < 1e-3


def parts(count: int, symmetric: bool) -> list[np.ndarray]:
    """A grey plate with noise, with a bright bar on the left and, where it is symmetric, one on the right as well."""
    rng = np.random.default_rng(1)
    images = rng.normal(100, 6, (count, 64, 64, 3))
    images[:, 8:40, 4:20] += 100
    if symmetric:
        images[:, 8:40, 44:60] += 100
    return list(images.clip(0, 255).astype(np.uint8))


SMALL = {"image_size": [64, 64], "backbone": "efficientnet_lite0", "memory_bank_size": 200}


@pytest.mark.parametrize(("symmetric", "mirrored"), [(True, True), (False, False)])
def test_few_parts_are_learnt_mirrored_where_mirrored_parts_are_good_ones(symmetric, mirrored):
    method = PatchCore.from_settings({**SMALL, "augment": ["auto"]})
    trained = method.fit(parts(8, symmetric))
    assert ("mirror" in method.also_learnt) == mirrored
    assert "upside_down" not in method.also_learnt  # the bars stand at the top
    assert trained.notes.get("also_learnt", []) == list(method.also_learnt)


def test_of_many_images_and_where_nobody_asks_none_is_learnt_mirrored(monkeypatch):
    from edgead.workstation.methods.patchcore import detector

    off = PatchCore.from_settings(SMALL)
    off.fit(parts(8, True))
    monkeypatch.setattr(detector, "FEW", 7)
    many = PatchCore.from_settings({**SMALL, "augment": ["auto"]})
    many.fit(parts(8, True))
    assert off.also_learnt == many.also_learnt == () and not many.notes.get("also_learnt")
    np.testing.assert_array_equal(off.memory_bank, many.memory_bank)


def test_few_images_are_scored_by_all_others_and_by_half_of_them():
    method = PatchCore.from_settings({**SMALL, "augment": ["mirror"], "by_place": False})
    trained = method.fit(parts(12, True), folds=[number % 10 for number in range(12)])
    assert method.left_out.shape == method.of_halves.shape == (12,)
    assert np.median(method.left_out) < np.median(method.of_halves)
    assert method.facts(0.2)["more_images"]["images"] == 24
    for fold in range(2):  # the same scores as the thresholds come from
        features = method._features(parts(12, True)[fold])
        scorer = trained.head.open_left_out({"features": features[None]}, trained.arrays, (64, 64), fold)
        assert scorer.score({"features": features}).image_score == pytest.approx(method.left_out[fold], rel=1e-4)


def test_nothing_is_said_of_more_images_where_they_would_be_learnt_otherwise():
    method = PatchCore.from_settings(SMALL)
    method.fit(parts(12, True), folds=[number % 10 for number in range(12)])
    assert method.facts(0.2) == {}  # with 24 usual scores begin
    no_folds = PatchCore.from_settings({**SMALL, "by_place": False})
    no_folds.fit(parts(12, True))
    assert no_folds.facts(0.2) == {}  # its thresholds come from other images
