"""The health of a camera, measured on the built-in line: what it must report, and what it must not."""

from __future__ import annotations

from datetime import datetime, timezone

import cv2
import numpy as np
import pytest

from edgead.sources.health import HealthSection, HealthWatch, ShiftMonitor
from edgead.synthetic.line import render
from edgead.types import Frame

GOLDEN = [render(seed)[0] for seed in range(3)]
PARTS = [render(seed)[0] for seed in range(10, 16)]


def check(images, *, golden=GOLDEN, **settings):
    """What is said after the last of the images."""
    watch = HealthWatch(HealthSection(**settings), golden)
    said = ()
    for number, image in enumerate(images):
        frame = Frame(image, number, int(number * 2e9), datetime.now(timezone.utc), "top")
        assert watch.is_due(frame)
        said = watch.check(frame)
    return said


def test_good_parts_say_nothing():
    assert check(PARTS) == ()


def test_defects_are_no_matter_of_the_camera():
    assert check([render(20 + i, defect)[0] for i, defect in enumerate(["scratch", "scratch", "scratch"])]) == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda image: image // 32, ("dark",)),
        (lambda image: np.maximum(image, 250), ("bright",)),
        (lambda image: cv2.GaussianBlur(image, (0, 0), 5), ("blurred",)),
        (lambda image: np.zeros_like(image), ("dark", "blurred")),
    ],
)
def test_what_is_wrong_is_named(change, expected):
    found = check([change(image) for image in PARTS])
    assert set(expected) <= set(found)


def test_contrast_is_no_blur():
    assert "blurred" not in check([(image * 0.6).astype(np.uint8) for image in PARTS])


def shifted(image, x, y):
    move = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return cv2.warpAffine(image, move, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def still(shift=0):
    """A scene that does not move but for its noise: what a camera over a fixture sees."""
    rng = np.random.default_rng(shift)
    scene = np.roll(GOLDEN[0], (shift, shift // 2), (0, 1)).astype(int)
    return [np.clip(scene + rng.integers(-4, 5, scene.shape), 0, 255).astype(np.uint8) for _ in range(5)]


def test_a_camera_that_was_moved():
    golden = still()[:3]
    assert check(still(2), golden=golden) == ()
    assert check(still(14), golden=golden) == ("moved",)
    assert check(PARTS[:1] + still() + still(14)[:2], golden=golden) == ()  # two of the last ones


def test_a_camera_above_a_conveyor_that_was_moved():
    """Parts lie up to 14 pixels from the middle and turned; the camera's own shift is what they have in common."""
    parts = [render(seed)[0] for seed in range(30, 39)]
    assert check(parts) == ()
    assert check([shifted(part, 30, 0) for part in parts]) == ("moved",)
    assert check([shifted(part, -25, 25) for part in parts]) == ("moved",)


def test_what_shows_no_part_says_nothing_of_the_place():
    rng = np.random.default_rng(1)
    conveyor = [np.clip(rng.normal(43, 4, GOLDEN[0].shape), 0, 255).astype(np.uint8) for _ in range(9)]
    assert check(conveyor, golden=still()[:3]) == ()
    moved = [shifted(part, 30, 0) for part in PARTS]
    mixed = [image for pair in zip(moved, conveyor, strict=False) for image in pair]
    assert check(mixed) == ("moved",)  # between the parts too


def test_parts_that_lie_anywhere_say_nothing_of_the_camera():
    golden = [np.roll(GOLDEN[0], shift, 1) for shift in (0, 40, 90)]
    assert check(still(14), golden=golden) == ()


def test_without_golden_images_only_brightness_is_judged():
    assert check([cv2.GaussianBlur(PARTS[0], (0, 0), 5)], golden=[]) == ()
    assert check([PARTS[0] // 40], golden=[]) == ("dark",)


def test_another_size_than_the_golden_images_is_no_fault():
    assert check([cv2.resize(PARTS[0], (200, 200))]) == ()


def test_it_is_not_looked_at_more_often_than_asked():
    watch = HealthWatch(HealthSection(every_s=1.0), GOLDEN)
    frames = [Frame(PARTS[0], i, int(i * 0.3e9), datetime.now(timezone.utc), "top") for i in range(8)]
    checked = []
    for frame in frames:
        if watch.is_due(frame):
            watch.check(frame)
            checked.append(frame.number)
    assert checked == [0, 4]


def test_looking_changes_no_golden_image():
    """OpenCV multiplies its window into images of some sizes: after some looks nothing would be left of them."""
    grey = cv2.cvtColor(GOLDEN[0], cv2.COLOR_BGR2GRAY)[:480, :480]
    place = ShiftMonitor([grey], scale=1.0)
    look = grey.copy()
    kept = place._golden[0].copy()
    for _ in range(3):
        place.look(look)
    np.testing.assert_array_equal(place._golden[0], kept)
