"""Defects in millimetres: the sides of boxes, and how deep what lies in them is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.plates import MM_PER_COUNT, MM_PER_PIXEL, render_plate, write_plates
from edgead.artifact.inputs import Preprocessing, Relief
from edgead.detector.box_sizes import in_mm
from edgead.types import Box, StageTimes, Verdict

BOX = Box(40, 30, 20, 10, 3.5, "centre")
RELIEF = Relief(mm_per_count=MM_PER_COUNT, height_mm=0.5, slope_mm=0.1, sigma_px=8)


def spec(**settings):
    return Preprocessing(image_size=(64, 64), **settings)


def of_heights(**settings):
    return spec(colour="relief", relief=RELIEF, **settings)


def test_sides_are_known_where_the_pixel_is():
    image = np.zeros((80, 120, 3), np.uint8)
    (found,) = in_mm((BOX,), image, spec(mm_per_pixel=0.25))
    assert (found.width_mm, found.height_mm, found.lowest_mm, found.highest_mm) == (5.0, 2.5, None, None)
    assert in_mm((BOX,), image, spec()) == (BOX,)


def test_a_record_without_millimetres_is_what_it_was():
    record = Verdict(1, "reject", np.zeros((2, 2), np.float32), 0.5, 0.4, (BOX,), StageTimes(1, 1, 1, 1)).to_dict()
    assert record["boxes"] == [{"x": 40, "y": 30, "width": 20, "height": 10, "peak": 3.5, "place": "centre"}]
    assert "mm_per_pixel" not in spec().model_dump()
    assert spec(mm_per_pixel=0.25).model_dump()["mm_per_pixel"] == 0.25


@pytest.mark.parametrize("roi", [None, (10, 20, 140, 130)])
@pytest.mark.parametrize("depth_mm", [0.3, 1.0])
def test_the_depth_of_a_dent_is_measured_from_the_plane_of_the_part(roi, depth_mm):
    plate = render_plate(np.random.default_rng(5), dent_mm=depth_mm, tilt_mm=(1.5, -1.0))
    rows, columns = np.nonzero(plate.mask)
    box = Box(int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1, 9.0)
    (found,) = in_mm((box,), plate.heights, of_heights(roi=roi, mm_per_pixel=MM_PER_PIXEL))
    # Grooves, waves and noise of the plate are up to 0.06 mm.
    assert found.lowest_mm == pytest.approx(-depth_mm, abs=0.08)
    assert found.highest_mm == pytest.approx(0, abs=0.12)
    assert found.width_mm == pytest.approx(box.width * MM_PER_PIXEL)


def test_a_box_that_is_one_hole_has_no_depth():
    heights = render_plate(np.random.default_rng(5)).heights
    heights[30:40, 40:60] = 0
    (found,) = in_mm((BOX,), heights, of_heights())
    assert (found.width_mm, found.lowest_mm, found.highest_mm) == (None, None, None)


def test_a_trained_model_says_how_large_and_how_deep_a_dent_is(tmp_path):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    import edgead
    from edgead.errors import SettingsError

    write_plates(tmp_path / "plates", good=12, tested=1, dents_mm=(1.0,), size=(96, 96))
    heights = tmp_path / "plates/heights"
    settings = {"image_size": [96, 96], "memory_bank_size": 200, "false_reject_rate": 0.2, "precision": "fp32"}
    settings |= {"input": "relief", "mm_per_count": MM_PER_COUNT, "backbone": "efficientnet_lite0", "group": "none"}
    with pytest.raises(SettingsError, match="above 0"):
        edgead.train(heights, tmp_path / "none", mm_per_pixel=0, **settings)
    with edgead.train(heights, tmp_path / "model", mm_per_pixel=MM_PER_PIXEL, **settings) as model:
        verdict = model.predict(heights / "test/dent_1mm/000.png")
    box = verdict.boxes[0]
    assert verdict.decision == "reject" and -1.15 < box.lowest_mm < -0.7
    assert box.width_mm == pytest.approx(box.width * MM_PER_PIXEL)
    assert json.loads(verdict.to_json())["boxes"][0]["lowest_mm"] == box.lowest_mm
