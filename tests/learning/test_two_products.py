"""Two products in one folder are named before anybody relies on the model; one product never is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgead.adapt.training.from_folder import train_from_folder
from edgead.adapt.training.good_images import GoodImages
from edgead.adapt.two_products import smaller_heap, warning_of
from edgead.artifact.manifest import Calibration
from edgead.calibration.guarantee import guarantee_of
from edgead.synthetic.line import part_seed, render

CHANNELS = 60


def heap(rng: np.random.Generator, count: int, at: np.ndarray) -> np.ndarray:
    """Images whose features vary along a few directions, as with light, and a little in all."""
    directions = rng.normal(size=(4, CHANNELS))
    varied = rng.standard_t(5, size=(count, 4)) @ directions + 0.3 * rng.normal(size=(count, CHANNELS))
    return (at + varied).astype(np.float32)


def test_forty_folders_of_one_product_are_no_two():
    found = [smaller_heap(heap(np.random.default_rng(seed), 25 + 5 * seed, np.zeros(CHANNELS))) for seed in range(40)]
    assert sum(map(bool, found)) <= 1


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_smaller_of_two_heaps_is_found(share):
    rng = np.random.default_rng(3)
    few = round(60 * share)
    other = 8 * rng.normal(size=CHANNELS)
    features = np.concatenate([heap(rng, 60 - few, np.zeros(CHANNELS)), heap(rng, few, other)])
    order = rng.permutation(60)
    found = {int(order[number]) for number in smaller_heap(features[order])}
    assert found in ({*range(60 - few, 60)}, {*range(60 - few)} if few == 30 else None)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_images_and_copies_are_one_heap(count):
    assert smaller_heap(np.zeros((count, CHANNELS), np.float32)) == []


def test_copies_are_one_heap():
    assert smaller_heap(np.ones((30, CHANNELS), np.float32)) == []


def test_the_warning_names_three_of_them_and_their_size():
    said = warning_of(["a.png", "b.png", "c.png", "d.png", "e.png"], [1, 2, 3, 4], ["9 x 9", *["4 x 4"] * 4])
    assert said.startswith("4 of 5 images look like another product or grade than the rest (4 x 4 instead of 9 x 9 ")
    assert "b.png, c.png, d.png first" in said
    assert said.endswith("each from a folder of its own: `edgead train FOLDER -o MODEL`")
    assert "instead" not in warning_of(["a.png", "b.png"], [1], ["9 x 9", "9 x 9"])


def test_a_training_on_two_products_says_so_first(tmp_path):
    folder = tmp_path / "good"
    folder.mkdir()
    for number in range(20):
        cv2.imwrite(str(folder / f"line{number:02d}.png"), render(part_seed(0, number))[0])
    rng = np.random.default_rng(0)
    for number in range(8):
        weave = np.add.outer(np.sin(np.arange(200) / 3), np.sin(np.arange(200) / 3 + rng.uniform(0, 6)))
        image = np.clip(128 + 40 * weave[..., None] + rng.normal(0, 5, (200, 200, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"weave{number}.png"), image)
    settings = {"backbone": "efficientnet_lite0", "image_size": (96, 96), "memory_bank_size": 200}
    artifact, _ = train_from_folder(GoodImages(folder, group="none"), tmp_path / "model", settings)
    first = artifact.manifest.training["odd_images"][0]
    assert first.startswith("8 of 28 images look like another product or grade than the rest (200 x 200 instead of")
    assert "weave0.png, weave1.png, weave2.png first" in first


def test_a_share_by_image_stands_beside_a_rate_by_groups():
    scores = [*np.linspace(0, 1, 20), *[2.0] * 10]
    groups = [*range(20), *[20] * 10]
    limits = Calibration(
        method="cross_conformal", false_reject_rate=0.1, review_rate=0.1, review=1.5, reject=1.5,
        map_threshold=1, map_typical=0, scores=scores, groups=groups,
    )  # fmt: skip
    assert "By image it is more: 10 of 30 lie above the limit (33 %), in few groups." in guarantee_of(limits)
    few = limits.model_copy(update={"scores": [*np.linspace(0, 1, 29), 2.0]})
    assert not any("By image" in one for one in guarantee_of(few))
