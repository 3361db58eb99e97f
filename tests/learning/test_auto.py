"""What `edgead train` finds out by itself: proportions, and the preset that suits a machine."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgead.adapt.training import auto
from edgead.adapt.training.good_images import GoodImages, Proportions, find_proportions, input_size, keep_proportions
from edgead.adapt.training.preset import preset_settings
from edgead.dataset.errors import DatasetError
from edgead.errors import SettingsError


def write(folder, sizes):
    paths = []
    for number, (height, width) in enumerate(sizes):
        paths.append(folder / f"{number:02d}.png")
        cv2.imwrite(str(paths[-1]), np.full((height, width, 3), 90, np.uint8))
    return paths


@pytest.mark.parametrize(
    ("side", "proportions", "expected"),
    [
        (448, 1, [448, 448]),
        (448, 2.52, [704, 288]),
        (448, 4 / 3, [512, 384]),
        (100, 1, [100, 100]),
        (64, 50, [448, 16]),
    ],
)
def test_the_input_keeps_the_pixels_and_the_proportions(side, proportions, expected):
    assert input_size(side, proportions) == expected


def test_proportions_are_those_of_most_images_or_of_the_region(tmp_path):
    paths = write(tmp_path, [(100, 250)] * 9 + [(250, 100)])
    assert find_proportions(paths) == Proportions(pytest.approx(0.4), "in proportion to the images")
    assert find_proportions(paths, (0, 0, 50, 25)) == Proportions(0.5, "in proportion to the region of interest")
    with pytest.raises(DatasetError, match="ends at 9999, 10"):
        find_proportions(paths, (0, 0, 9999, 10))


def test_images_of_different_proportions_are_filled_up_to_a_square(tmp_path):
    proportions = find_proportions(write(tmp_path, [(100, 250), (250, 100), (90, 100), (100, 180)]))
    assert proportions.height == 1 and proportions.mixed and "different proportions" in proportions.reason
    assert keep_proportions({"image_size": [64, 64]}, proportions) == {"image_size": [64, 64], "fill": "reflect"}


def test_images_that_cannot_be_read_are_left_to_the_training(tmp_path):
    paths = write(tmp_path, [(100, 200)] * 3)
    paths[1].write_bytes(b"no image")
    assert find_proportions(paths).height == pytest.approx(0.5)
    assert find_proportions(paths[1:2]).height == 1


def test_a_rectangle_that_was_asked_for_stays():
    tall = Proportions(4.0, "")
    assert keep_proportions({"image_size": [320, 160]}, tall) == {"image_size": [320, 160]}
    assert keep_proportions({"image_size": [320, 320], "window": 3}, tall) == {"image_size": [640, 160], "window": 3}


def test_auto_is_default_or_fast_by_the_time_of_a_frame(tmp_path, monkeypatch):
    write(tmp_path, [(100, 200)] * 4)
    good = GoodImages(tmp_path, group="none")
    for frame_ms, preset in ((auto.SUITED_MS, "default"), (auto.SUITED_MS + 1, "fast")):
        monkeypatch.setattr(auto, "frame_ms", lambda settings, took=frame_ms: took)
        assert preset_settings(good, "patchcore", "auto") == preset_settings(good, "patchcore", preset)
    with pytest.raises(SettingsError, match="presets of its own"):
        preset_settings(good, "simplenet", "auto")


@pytest.mark.slow
def test_the_frame_time_is_measured_on_the_network_that_would_run():
    small, large = (
        auto.frame_ms({"backbone": "efficientnet_lite0", "image_size": [side, side], "memory_bank_size": 50})
        for side in (64, 256)
    )
    assert 0 < small < large
