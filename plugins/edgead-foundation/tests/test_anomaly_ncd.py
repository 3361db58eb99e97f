"""Sorting by AnomalyNCD from images and maps to kinds, the views that it learns from, and the files that it reads."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from safetensors.torch import save_file  # noqa: E402

from edgead.errors import SettingsError  # noqa: E402
from edgead_foundation.anomaly_ncd import sort  # noqa: E402
from edgead_foundation.anomaly_ncd.crops import Crop  # noqa: E402
from edgead_foundation.anomaly_ncd.encoder import MaskGuidedVit, RegionAverage  # noqa: E402
from edgead_foundation.anomaly_ncd.sort import Base, Sorting, find_crops  # noqa: E402
from edgead_foundation.anomaly_ncd.training import Material, Plan, cosine  # noqa: E402
from edgead_foundation.anomaly_ncd.views import Views  # noqa: E402
from edgead_foundation.backbones.vit import VisionTransformer, VitShape, read_vit  # noqa: E402

SMALL = VitShape(image_size=32, patch_size=8, width=64, depth=2, heads=1)
SIDE = 96


def draw(kind: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A grey part with nothing, a red spot or a blue stripe, BGR; and its anomaly map."""
    image = rng.normal(120, 3, (SIDE, SIDE, 3))
    deviates = np.zeros((SIDE, SIDE), bool)
    y, x = rng.integers(20, 60, 2)
    if kind == 1:
        deviates[y : y + 18, x : x + 18] = True
        image[deviates] = (20, 20, 220)
    if kind == 2:
        deviates[y : y + 10, x - 15 : x + 25] = True
        image[deviates] = (220, 60, 20)
    scores = 0.1 + 0.02 * rng.random((SIDE, SIDE)) + (0.8 + 0.05 * rng.random()) * deviates
    return np.clip(image, 0, 255).astype(np.uint8), scores.astype(np.float32)


def draw_set(kinds: list[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(3)
    images, maps = zip(*(draw(kind, rng) for kind in kinds), strict=True)
    return list(images), list(maps)


TRUTH = [0, 1, 2] * 6


@pytest.fixture(scope="module")
def small_vit() -> VisionTransformer:
    torch.manual_seed(0)
    vit = VisionTransformer(SMALL)
    torch.nn.init.trunc_normal_(vit.cls_token, std=0.5)
    return vit


def test_kinds_are_found_without_a_label():
    sorting = Sorting(*draw_set(TRUTH), Plan(3, epochs=12), encoder=RegionAverage(side=64), device="cpu")
    found = sorting.run()
    partners = {(a, b) for a, b in zip(TRUTH, found.labels.tolist(), strict=True)}
    assert len(partners) == 3, found.labels
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)


def test_a_transformer_and_base_classes_go_the_same_way_twice(small_vit):
    images, maps = draw_set([1, 2, 1, 2, 0])
    base = Base(images[:4], [x > 0.5 for x in maps[:4]], [0, 1, 0, 1])
    state = {name: value.clone() for name, value in small_vit.state_dict().items()}
    probabilities = []
    for _ in range(2):
        small_vit.load_state_dict(state)
        encoder = MaskGuidedVit(small_vit, masked=1)
        given = {"encoder": encoder, "base": base, "device": "cpu"}
        probabilities.append(Sorting(images, maps, Plan(3, 2, 4), **given).run().probabilities)
    np.testing.assert_array_equal(*probabilities)
    assert probabilities[0].shape == (5, 3)
    changed = {name for name, value in small_vit.state_dict().items() if not torch.equal(value, state[name])}
    assert changed and all(name.startswith("blocks.1.") for name in changed)


def test_known_masks_take_the_place_of_binarisation():
    images, maps = draw_set([1, 1])
    masks = [np.zeros((SIDE, SIDE), bool) for _ in range(2)]
    masks[0][40:44, 50:54] = True
    first, second = find_crops(images, maps, masks)
    assert [crop.area for crop in first] == [16]
    assert second[0].mask.shape == (SIDE, SIDE) and second[0].area == 0


@pytest.mark.parametrize(
    ("count", "kinds", "words"), [(3, 2, "2 and 3 images, maps"), (2, 3, "2 images cannot be of 3 kinds")]
)
def test_what_cannot_be_sorted_is_refused(count, kinds, words):
    images, maps = draw_set([1] * count)
    with pytest.raises(SettingsError, match=words):
        Sorting(images[:2], maps, Plan(kinds), encoder=RegionAverage(side=64))


@pytest.mark.parametrize("settings", [{"kinds": 1}, {"kinds": 2, "epochs": 0}, {"kinds": 2, "batch_size": 1}], ids=str)
def test_a_plan_that_cannot_be_is_refused(settings):
    with pytest.raises(SettingsError, match="at least"):
        Plan(**settings)


def test_a_view_turns_image_and_mask_alike():
    mask = np.zeros((80, 80), np.uint8)
    mask[8:30, 12:60] = 255
    image = np.where(mask[..., None] > 0, 220, 30).repeat(3, axis=2).astype(np.uint8)
    views = Views(64)
    given = views.enlarge(Crop(image, mask, (0, 0, 80, 80)))
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        bright, marked = views.trained(*given)
        assert bright.shape == (3, 64, 64) and marked.shape == (1, 64, 64)
        # What is sure to lie inside or outside, beyond the blur.
        inside = bright[:, marked[0] > 0.99].mean()
        assert inside > bright[:, marked[0] < 0.01].mean() + 0.5
        seen.add(marked.numpy().tobytes())
    assert len(seen) > 8
    np.testing.assert_array_equal(views.judged(*given)[1], views.judged(*given)[1])


def test_base_classes_and_others_are_drawn_alike():
    crop = Crop(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8), (0, 0, 40, 40), 0.2)
    material = Material([crop] * 90, [crop] * 10, [0] * 10, Views(32), 0.5)
    drawn = np.concatenate([material.order(1, epoch) for epoch in range(40)])
    assert (drawn >= 90).mean() == pytest.approx(0.5, abs=0.03)
    assert material.normality[:90] == pytest.approx(0.3) and material.labels.tolist() == [-1] * 90 + [0] * 10


def test_the_rate_follows_the_cosine_of_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=2e-3)
    for epoch in range(50):
        assert 2 * cosine(epoch, 50) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("name", ["vit.pth", "vit.safetensors"])
def test_a_file_of_dino_is_read(tmp_path, small_vit, name):
    file = tmp_path / name
    state = small_vit.state_dict()
    save_file(state, file) if name.endswith("safetensors") else torch.save(state, file)
    read = read_vit(file)
    assert read.shape == SMALL
    image = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(read(image), small_vit(image), rtol=0, atol=0)
    assert isinstance(sort.build_encoder(file), MaskGuidedVit)


class Thing:
    """Something that only unpickling could make."""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no file"),
        (b"no tensors", "holds Python objects|is damaged"),
        ({"a": torch.zeros(1)}, "no vision transformer of DINO"),
        ([1], "a list instead"),
        ({"model": Thing()}, "does not unpickle"),
    ],
    ids=["none", "bytes", "another", "list", "object"],
)
def test_another_file_is_refused(tmp_path, content, words):
    file = tmp_path / "vit.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(SettingsError, match=words):
        read_vit(file)
