"""Two products in one folder are named before anybody relies on the model; one product never is."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from data_sets import two_products
from typer.testing import CliRunner

from edgead.adapt.commission.worker import TwoProductsError, learn_order
from edgead.adapt.training.from_folder import train_from_folder
from edgead.adapt.training.good_images import GoodImages
from edgead.adapt.two_products import TwoProducts, smaller_heap
from edgead.artifact.manifest import Calibration
from edgead.calibration.guarantee import guarantee_of
from edgead.cli import app

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


def test_the_warning_names_three_of_each_and_their_sizes():
    names, sizes = ["a.png", "b.png", "c.png", "d.png", "e.png"], ["9 x 9", *["4 x 4"] * 4]
    said = TwoProducts([], names, sizes, [1, 2, 3, 4]).warning
    assert said.startswith("4 of 5 images look like another product or grade than the rest (4 x 4 instead of 9 x 9 ")
    assert "b.png, c.png, d.png first; the rest begins with a.png" in said
    assert said.endswith("each from a folder of its own: `edgead train FOLDER -o MODEL`")
    assert "instead" not in TwoProducts([], ["a.png", "b.png"], ["9 x 9", "9 x 9"], [1]).warning


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return two_products(tmp_path_factory.mktemp("mixed") / "good")


SETTINGS = {"backbone": "efficientnet_lite0", "image_size": (96, 96), "memory_bank_size": 200}


def test_two_products_are_found_before_anything_is_learnt(mixed, tmp_path):
    stages, found = [], []

    def stop(two: TwoProducts) -> None:
        found.append(two)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train_from_folder(
            GoodImages(mixed, group="none"),
            tmp_path / "model",
            SETTINGS,
            progress=lambda stage, done, total: stages.append(stage),
            found_two=stop,
        )
    assert list(dict.fromkeys(stages)) == ["read images", "extract features"]
    assert not (tmp_path / "model").exists()
    (two,) = found
    assert [two.names[number] for number in two.heap] == [f"weave{number}.png" for number in range(8)]
    height, width = two.sheet().shape[:2]
    assert height > 800 and width >= 1400  # two rows of images


def test_a_training_on_two_products_says_so_first_and_goes_on(mixed, tmp_path):
    command = ["train", mixed, "-o", tmp_path / "model", "--preset", "fast", "--precision", "fp32", "--group", "none"]
    ended = CliRunner().invoke(app, [*map(str, command), "--json"])
    assert ended.exit_code == 0, ended.output
    warning = json.loads(ended.stdout)["two_products"]
    assert warning.startswith("8 of 28 images look like another product or grade than the rest, weave0.png, weave1.png")
    sheet = tmp_path / "model-two-products.jpg"
    assert (
        sheet.is_file() and str(sheet) in ended.stderr and ended.stderr.count(warning) == 2
    )  # before it learns, and last
    listed = sheet.with_suffix(".txt").read_text("utf-8").splitlines()
    assert listed == [str(mixed / f"weave{number}.png") for number in range(8)]


def test_the_page_asks_before_it_learns_two_products(mixed, tmp_path):
    names = [f"{number:06d}.png" for number in range(28)]
    (tmp_path / "images").mkdir()
    for name, path in zip(names, sorted(mixed.iterdir()), strict=True):
        shutil.copy(path, tmp_path / "images" / name)
    order = {
        "images": [str(tmp_path / "images" / name) for name in names],
        "files": {}, "frame_size": [320, 320], "region": None, "ignored": [], "preset": "fast", "data": "line",
        "folder": str(tmp_path / "learnt"), "one_product": False,
    }  # fmt: skip
    with pytest.raises(TwoProductsError) as refused:
        learn_order(order, lambda stage, done, total: None)
    assert refused.value.images == names[20:]
    assert not (tmp_path / "learnt").exists()
    learn_order({**order, "one_product": True}, lambda stage, done, total: None)
    result = json.loads((tmp_path / "learnt" / "result.json").read_text())
    assert result["learnt"] == 28
    assert {*names[20:]} <= {part["name"] for part in result["parts"] if part["odd"]}  # why defects may pass


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
