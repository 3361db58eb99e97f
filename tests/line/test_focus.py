"""The focus of a camera: cells that are blurred score lower, and golden images are what they are compared with."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgead.images.focus import COLUMNS, ROWS, measure_focus
from edgead.line.web.focus import FocusMeter
from edgead.synthetic.line import render


def texture(seed=0):
    return np.random.default_rng(seed).integers(0, 200, (240, 320, 3), np.uint8)


def test_the_blurred_half_of_an_image_is_less_sharp_in_its_cells():
    image = texture()
    image[:, :160] = cv2.GaussianBlur(image, (0, 0), 3)[:, :160]
    cells = np.reshape(measure_focus(image).sharpness, (ROWS, COLUMNS))
    assert (cells[:, : COLUMNS // 2].max(axis=1) < 0.2 * cells[:, COLUMNS // 2 + 1 :].min(axis=1)).all()


def moved(image, length, axis, noise=3.0):
    """The image of what moves so many pixels during the exposure, along x (0) or y (1), with noise of the sensor."""
    kernel = np.full((1, length) if axis == 0 else (length, 1), 1 / length, np.float32)
    smeared = cv2.filter2D(image.astype(np.float32), -1, kernel, borderType=cv2.BORDER_REFLECT)
    return np.clip(smeared + np.random.default_rng(0).normal(0, noise, image.shape), 0, 255).astype(np.uint8)


def test_motion_takes_of_its_own_direction_and_defocus_of_both():
    """Of parts that did not set the page's bound, 0.85."""
    golden = [measure_focus(render(number)[0]) for number in range(100, 105)]
    usual = np.median([(one.across, one.down) for one in golden], axis=0)

    def ratio(image):
        found = measure_focus(image)
        across, down = (found.across, found.down) / usual
        return across / down

    for number in range(105, 115):
        image = render(number)[0]
        assert 0.93 < ratio(image) < 1 / 0.93
        assert 0.93 < ratio(cv2.GaussianBlur(image, (0, 0), 2)) < 1 / 0.93
        for length in (3, 5, 9):
            assert ratio(moved(image, length, 0)) < 0.85
            assert ratio(moved(image, length, 1)) > 1 / 0.85


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
    assert found.across > 0 and found.down > 0
    assert FocusMeter().golden("other", shape, daemon) is None
    assert FocusMeter().golden("conveyor", (1, 2, 3), daemon) is None
    status.model = str(trained_model / "nowhere")
    assert FocusMeter().golden("conveyor", shape, daemon) is None
