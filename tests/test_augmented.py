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


def test_an_unknown_kind_is_refused():
    with pytest.raises(SettingsError, match="choose from flips"):
        PatchCoreConfig(augment=("noise",))


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
