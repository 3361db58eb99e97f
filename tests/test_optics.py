"""What a smallest defect asks of a station: rules by hand, and that each plan keeps what it says."""

from __future__ import annotations

import json
import math

import pytest
from command_line import run_here
from hypothesis import given
from hypothesis import strategies as st

from edgead.artifact.tiling import Tiling
from edgead.errors import SettingsError
from edgead.sources.optics import (
    PIXELS_ON_DEFECT,
    SENSORS,
    TILE_INPUT,
    plan_optics,
    read_length,
    read_speed,
    read_view,
)


def test_a_view_by_hand():
    plan = plan_optics(0.2, (80, 60), 500, 300)
    assert (plan.pixels_across, plan.pixels_down) == (3200, 2400)
    assert plan.sensor is not None and (plan.sensor.width, plan.sensor.height) == (4096, 3000)
    assert plan.sensor_pixels == pytest.approx(0.2 * 3000 / 60)
    assert plan.exposure_us == pytest.approx(100)
    scale = 3000 / 60 * 0.00345
    assert plan.lenses[0].focal_mm == 50 and plan.lenses[0].distance_mm == pytest.approx(50 * (1 + 1 / scale))
    assert plan.lenses[0].depth_mm == pytest.approx(2 * 5.6 * 0.00345 * (1 + scale) / scale**2)


def test_whole_images_come_before_finer_presets_and_tiles():
    assert [plan_optics(defect, (80, 60)).train for defect in (2, 1)] == ["--preset default", "--preset fine"]
    assert plan_optics(0.5, (80, 60)).train.startswith("--tiles ")


@given(
    st.floats(0.01, 5), st.floats(10, 500), st.floats(10, 500), st.just(0.0) | st.floats(1, 3000), st.floats(20, 2000)
)
def test_what_a_plan_says_holds(defect, width, height, speed, distance):
    plan = plan_optics(defect, (width, height), speed, distance)
    if plan.sensor is None:
        assert any("several cameras" in note for note in plan.notes) and not plan.lenses
        longer, shorter = sorted((plan.pixels_across, plan.pixels_down), reverse=True)
        assert longer > SENSORS[-1].width or shorter > SENSORS[-1].height
    else:
        assert plan.sensor_pixels >= PIXELS_ON_DEFECT - 1e-9
        assert plan.input_pixels >= PIXELS_ON_DEFECT - 0.1  # a tile has whole pixels
        for lens in plan.lenses:
            assert lens.distance_mm > lens.focal_mm and 0.5 <= lens.distance_mm / distance <= 2
        if plan.train.startswith("--tiles"):
            side, shared = int(plan.train.split()[1]), int(plan.train.split()[1]) // 8
            density = plan.sensor_pixels / defect
            shape = tuple(math.floor(density * extent + 1e-6) for extent in (height, width))
            if plan.tiles < 1000:
                assert len(Tiling(size=(side, side), overlap=(shared, shared)).over(shape)) == plan.tiles
            assert side >= TILE_INPUT or side == math.floor(density * min(width, height) + 1e-6)
    if speed:
        assert plan.exposure_us * speed == pytest.approx(defect / 4 * 1e6)


def test_lengths_with_their_units():
    assert [read_length(text) for text in ("0.2mm", "3cm", "50um", "1m", "2 mm")] == [0.2, 30, 0.05, 1000, 2]
    assert read_view("80x60mm") == (80, 60) and read_view("8cm") == (80, 60)
    assert [read_speed(text) for text in ("0.5m/s", "12m/min", "200mm/s")] == [500, 200, 200]


@pytest.mark.parametrize("read, text", [
    (read_length, "0.2"), (read_length, "0mm"), (read_length, "-1mm"), (read_length, "nan mm"), (read_length, "1e9mm"),
    (read_view, "80x60"), (read_view, "80x0mm"), (read_speed, "0.5m"), (read_speed, "fast"),
])  # fmt: skip
def test_what_has_no_unit_or_no_size_is_refused(read, text):
    with pytest.raises(SettingsError, match="give a number"):
        read(text)


def test_the_command():
    ended = run_here("optics", "--defect", "0.2mm", "--view", "80x60mm", "--speed", "2m/s", "--json")
    assert json.loads(ended.stdout)["exposure_us"] == pytest.approx(25)
    said = " ".join(run_here("optics", "--defect", "0.2mm", "--view", "80x60mm", columns=200).stdout.split())
    assert "12 MP" in said and "--tiles" in said and "exposure" not in said
    refused = run_here("optics", "--defect", "90mm", "--view", "80mm")
    assert refused.returncode == 2 and "larger than the view" in refused.stderr
