"""`--roi auto`: where the parts lie, and the whole image wherever that is not certain."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from edgead.cli import app
from edgead.cli.region import read_region
from edgead.dataset.folders import find_good_images
from edgead.dataset.part_region import LOOKED_AT, find_part_region, find_parts
from edgead.errors import SettingsError

SHAPE = (120, 160)


def write(folder, images):
    (folder / "train/good").mkdir(parents=True)
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"train/good/{number:03d}.png"), image)
    return find_good_images(folder)


def rough(rng, level=60, deviation=4):
    """A background without anything on it: another piece of the same texture each time."""
    return np.clip(rng.normal(level, deviation, (*SHAPE, 3)), 0, 255).astype(np.uint8)


def with_part(rng, x=50, y=30, size=60):
    image = rough(rng)
    cv2.rectangle(image, (x, y), (x + size, y + size), (190, 190, 190), -1)
    cv2.circle(image, (x + size // 2, y + size // 2), size // 5, (40, 40, 40), -1)
    return image


def test_the_region_holds_every_part_and_little_else(tmp_path):
    rng = np.random.default_rng(0)
    moves = rng.integers(-4, 5, (30, 2))
    paths = write(tmp_path, [with_part(rng, 50 + x, 30 + y) for x, y in moves])
    seen = []
    found = find_part_region(paths, progress=lambda *done: seen.append(done))
    x, y, width, height = found.region
    assert x <= 46 and y <= 26 and x + width >= 114 and y + height >= 94
    assert width < 90 and height < 90
    assert found.reason == f"{x},{y},{width},{height}: around it is only background"
    assert seen[-1] == (30, 30)
    assert read_region("auto", tmp_path, None) == found.region
    assert read_region("1,2,3,4", tmp_path, None) == (1, 2, 3, 4)
    assert read_region(None, tmp_path, None) is None


def test_the_parts_of_the_built_in_line_are_found_with_all_their_defects(line_data):
    x, y, width, height = find_part_region(find_good_images(line_data)).region
    assert width * height < 0.85 * 480 * 480
    for mask in sorted(line_data.glob("ground_truth/*/*.png")):
        rows, columns = np.nonzero(cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE))
        assert x <= columns.min() and columns.max() < x + width and y <= rows.min() and rows.max() < y + height


@pytest.mark.parametrize(("roi", "quiet"), [("auto", True), ("30,30,420,420", None)])
def test_train_with_auto_looks_at_the_parts_alone(line_data, tmp_path, monkeypatch, roi, quiet):
    from_folder = pytest.importorskip("edgead.training.from_folder", reason="training needs the workstation's packages")
    asked = {}

    def train_from_folder(good, destination, settings, **options):
        asked.update(roi=good.roi, settings=settings)
        raise SettingsError("this is enough")

    monkeypatch.setattr(from_folder, "train_from_folder", train_from_folder)
    CliRunner().invoke(app, ["train", str(line_data), "-o", str(tmp_path / "m"), "--roi", roi])
    assert asked["settings"].get("quiet_background") is quiet
    x, y, width, height = asked["roi"]
    from edgead.training.proportions import input_size

    assert asked["roi"] == read_region(roi, line_data, None)
    assert asked["settings"]["image_size"] == input_size(448, height / width)


def test_another_object_that_moves_about_is_held_too(tmp_path):
    """A fixture in the middle is alike in all images; the parts around it, which are not, must not be left out."""
    rng = np.random.default_rng(1)
    images = []
    for x, y in rng.integers(0, 20, (40, 2)):
        image = with_part(rng, 60, 40, 40)
        cv2.circle(image, (int(x) + 10, int(y) + 10), 9, (220, 220, 220), -1)
        images.append(image)
    x, y, _, _ = find_part_region(write(tmp_path, images)).region or (0, 0, *SHAPE[::-1])
    assert x <= 2 and y <= 2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda rng, number: rough(rng, 120, 30), "nothing is at the same place"),
        (lambda rng, number: rough(rng)[: 100 + number], "different sizes"),
        (lambda rng, number: with_part(rng, 2, 2, 155), "reach to its borders"),
        (lambda rng, number: np.full((*SHAPE, 3), 0, np.uint8), "nothing is at the same place"),
    ],
)
def test_whoever_is_in_doubt_looks_at_the_whole_image(tmp_path, make, reason):
    rng = np.random.default_rng(2)
    found = find_part_region(write(tmp_path, [make(rng, number) for number in range(30)]))
    assert found.region is None and found.reason.startswith("the whole image: ") and reason in found.reason


def test_too_few_images_and_images_that_cannot_be_read(tmp_path):
    rng = np.random.default_rng(3)
    paths = write(tmp_path, [with_part(rng) for _ in range(21)])
    assert find_part_region(paths).region is not None
    for path in paths[:3]:
        path.write_bytes(b"no image")
    assert "18 good images are too few" in find_part_region(paths).reason
    assert len(paths) < LOOKED_AT


def test_parts_are_found_with_their_holes_filled():
    rng = np.random.default_rng(4)
    images = [with_part(rng) for _ in range(24)]
    parts = find_parts(images)
    rows, columns = np.nonzero(parts)
    assert parts[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].mean() > 0.9
    assert not parts[:15].any() and parts[60, 80]
    assert find_parts(images[:19]) is None
    assert find_parts([rough(rng) for _ in range(24)]) is None
