"""Good images that score highest: which are named, and when a warning says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgead.adapt.highest import with_highest
from edgead.artifact.manifest import Calibration
from edgead.images.files import load_image, write_image

NAMES = [f"{number:02d}.png" for number in range(20)]
GOOD = np.linspace(1.2, 1, 20)


def facts(scores, training=None, **changes):
    values = {
        "method": "cross_conformal",
        "false_reject_rate": 0.1,
        "review_rate": 0.1,
        "review": max(scores),
        "reject": max(scores),
        "map_threshold": 1.0,
        "map_typical": 0.5,
        "scores": sorted(scores),
    }
    return with_highest(training or {}, NAMES, scores, Calibration(**{**values, **changes}))


def test_five_are_named_without_a_warning():
    assert facts(GOOD) == {"highest_images": NAMES[:5], "images_apart": 0}


def test_those_that_stand_apart_are_a_warning_beside_others():
    scores = [*GOOD[:18], 3.0, 3.1]
    found = facts(scores, {"odd_images": ["one has other proportions"]})
    assert found["highest_images"][:3] == ["19.png", "18.png", "00.png"] and found["images_apart"] == 2
    first, warning = found["odd_images"]
    assert first == "one has other proportions"
    assert warning.startswith(
        "2 of 20 good images score far above the others: 19.png, 18.png (up to 100, the others at most 4, the limit is "
        "100). Look at them. Where they are defective, they were learnt as good, and defects like them may pass"
    )
    assert "learnt as good" not in facts(scores, method="split_conformal")["odd_images"][0]


def test_what_a_device_left_out_is_not_named_again():
    found = facts([*GOOD[:18], 3.0, 3.1], {"commissioned": {"odd": ["19.png"]}})
    assert found["images_apart"] == 1 and "19.png" not in found["highest_images"]
    assert "1 of 19 good images" in found["odd_images"][0]


def test_of_many_the_first_are_named():
    found = facts([*GOOD[:15], *np.linspace(3, 4, 5)])
    assert found["images_apart"] == 5 and found["highest_images"] == NAMES[:14:-1]


@pytest.mark.slow
def test_a_training_warns_of_defects_among_good_parts(line_data, tmp_path, caplog):
    """From Python, whose log has it, as from the command line."""
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    import edgead

    good = Path(shutil.copytree(line_data / "train" / "good", tmp_path / "good"))
    image = load_image(next(good.iterdir()))
    image[150:250, 150:250] = np.random.default_rng(0).integers(0, 256, (100, 100, 3))
    write_image(good / "defect.png", image)
    given = {"preset": "fast", "image_size": 96, "group": "none", "precision": "fp32", "progress": False}
    with edgead.train(good, tmp_path / "model", **given) as model:
        training = model.manifest.training
    assert training["highest_images"][0] == "defect.png"
    (warning,) = training["odd_images"]
    assert " good images score far above the others: defect.png" in warning
    assert warning in caplog.text
