"""The focus of a camera: cells that are blurred score lower, and golden images are what they are compared with."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgead.images.focus import COLUMNS, ROWS, measure_focus
from edgead.web.focus import FocusMeter


def texture(seed=0):
    return np.random.default_rng(seed).integers(0, 200, (240, 320, 3), np.uint8)


def test_the_blurred_half_of_an_image_is_less_sharp_in_its_cells():
    image = texture()
    image[:, :160] = cv2.GaussianBlur(image, (0, 0), 3)[:, :160]
    cells = np.reshape(measure_focus(image).sharpness, (ROWS, COLUMNS))
    assert (cells[:, : COLUMNS // 2].max(axis=1) < 0.2 * cells[:, COLUMNS // 2 + 1 :].min(axis=1)).all()


def test_the_share_that_is_white_to_the_end():
    image = np.full((60, 80, 3), 90, np.uint8)
    image[:15] = 255
    found = measure_focus(image)
    assert found.saturated == pytest.approx(0.25) and found.sharpness[-1] == 0


def test_a_frame_is_measured_at_most_twice_a_second():
    now = [0.0]
    meter = FocusMeter(clock=lambda: now[0])
    first, second = (SimpleNamespace(id=name, image=texture(seed)) for seed, name in enumerate(("a", "b")))
    assert meter.measure("conveyor", first)[0] == "a" == meter.measure("conveyor", second)[0]
    assert meter.measure("side", second)[0] == "b"
    now[0] = 0.6
    assert meter.measure("conveyor", second) == ("b", measure_focus(second.image))


def test_golden_images_of_the_model_that_judges_the_camera(trained_model):
    status = SimpleNamespace(model=str(trained_model), model_sha256="0" * 64)
    pipelines = {"front": SimpleNamespace(status=lambda: status)}
    site = SimpleNamespace(pipelines={"front": SimpleNamespace(camera="conveyor")})
    daemon = SimpleNamespace(site=site, pipelines=pipelines)
    shape = cv2.imread(str(next(trained_model.rglob("golden*/*.png")))).shape
    found = FocusMeter().golden("conveyor", shape, daemon)
    assert found is not None and len(found.sharpness) == ROWS * COLUMNS and max(found.sharpness) > 0
    assert FocusMeter().golden("other", shape, daemon) is None
    assert FocusMeter().golden("conveyor", (1, 2, 3), daemon) is None
    status.model = str(trained_model / "nowhere")
    assert FocusMeter().golden("conveyor", shape, daemon) is None
