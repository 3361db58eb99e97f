"""From a camera to a calibrated model on the device: without torch, and equal to what torch would have made."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_cli import edgead
from test_imports import REFUSE, run

from edgead import Detector
from edgead.adapt.commission.collect import CommissionError, collect, find_blurred
from edgead.adapt.commission.run import CommissionPlan, _good_parts, commission
from edgead.artifact.folder import Artifact
from edgead.artifact.preprocess import alignment_to
from edgead.dataset.folders import DatasetError
from edgead.dataset.places import read_ignored
from edgead.errors import EdgeadError, SettingsError
from edgead.images.files import list_images, write_image
from edgead.synthetic.line import conveyor
from edgead.types import Frame

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parts() -> list[np.ndarray]:
    return [image for image, _, _ in conveyor(3, 10, 0.0)]


@pytest.fixture(scope="module")
def commissioned(tmp_path_factory) -> Path:
    """A model that was made where torch and onnx cannot be imported."""
    path = tmp_path_factory.mktemp("device") / "model"
    arguments = ["commission", "synthetic:", "-o", str(path), "--images", "30"]
    code = f"from edgead.cli import main\nsys.argv[1:] = {arguments!r}"
    run(REFUSE + code + "\nmain()")
    return path


def frame(image: np.ndarray, number: int) -> Frame:
    return Frame(image, number, 0, datetime.now(timezone.utc), "test")


def frames(images: list[np.ndarray]) -> list[Frame]:
    return [frame(image, number) for number, image in enumerate(images)]


@pytest.mark.slow
def test_works_without_the_workstation(commissioned):
    manifest = Artifact.load(commissioned).manifest
    assert manifest.detector == "patchcore"
    assert manifest.training["training_images"] == 30
    assert manifest.training["data"] == "synthetic:"
    assert len(manifest.learnt_graph.calibration.scores) == 30
    assert manifest.learnt_graph.calibration.false_reject_rate == 0.1
    training = manifest.training
    assert len(training["highest_images"]) == max(5, training["images_apart"])
    with Detector.load(commissioned) as detector:
        good = [detector.predict(image).image_score for image, _, _ in conveyor(9, 8, 0.0)]
        flawed = [detector.predict(image).image_score for image, _, defect in conveyor(9, 60, 0.3) if defect]
    assert np.median(flawed) > np.median(good)
    assert not list(commissioned.parent.glob(".*"))


def test_a_region_outside_the_image_is_refused_at_the_first_part(tmp_path):
    plan = CommissionPlan(30, roi=(0, 0, 9999, 100), keep_images=tmp_path / "parts")
    with pytest.raises(DatasetError, match="ends at 9999, 100, but frame 0 has 480 x 480 pixels"):
        commission("synthetic:", tmp_path / "model", plan)
    assert list((tmp_path / "parts").iterdir()) == []


def test_images_are_kept_in_a_folder_that_is_named_from_here(tmp_path, parts, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(parts):
        write_image(Path("parts") / f"{number}.png", image)
    plan = CommissionPlan(10, "fast", false_reject_rate=0.3, keep_images=Path("kept"))
    assert commission("parts", Path("model"), plan).artifact.manifest.training["training_images"] == 10
    assert len(list_images(Path("kept"))) == 10


@pytest.mark.parametrize("preset", ["fast", "default"])
def test_the_same_images_give_the_same_arrays_as_train(tmp_path, parts, preset):
    for number, image in enumerate(parts):
        write_image(tmp_path / "parts" / f"part {3 * number}.png", image)  # "part 12" comes after "part 3"
    plan = CommissionPlan(10, preset, false_reject_rate=0.3, group="none")
    commissioned = commission(str(tmp_path / "parts"), tmp_path / "device", plan).artifact
    options = ["--preset", preset, "--false-reject-rate", 0.3, "--group", "none", "--precision", "auto"]
    edgead("train", tmp_path / "parts", "-o", tmp_path / "workstation", *options)
    trained = Artifact.load(tmp_path / "workstation")
    assert commissioned.manifest.arrays == trained.manifest.arrays
    for name in trained.manifest.arrays.values():
        assert (commissioned.path / name).read_bytes() == (trained.path / name).read_bytes(), name
    assert commissioned.graph().calibration == trained.graph().calibration


def test_places_are_those_of_train(tmp_path, parts):
    for number, image in enumerate(parts):
        write_image(tmp_path / "parts" / f"{number}.png", image)
    rate = dict(false_reject_rate=0.3)
    asked, golden = ("20,30,90,40", "300,300,460,300,460,460"), tmp_path / "parts" / "1.png"
    plan = CommissionPlan(10, roi=(10, 10, 460, 460), ignore=asked, align=golden, **rate)
    spec = commission(str(tmp_path / "parts"), tmp_path / "model", plan).artifact.manifest.preprocessing
    assert spec.ignored == read_ignored(asked, parts[0].shape[:2], "a part")
    assert spec.alignment == alignment_to(parts[1]) and spec.roi == (10, 10, 460, 460)


@pytest.mark.parametrize("asked", ["500,0,9,9", "0,0,480,480", "1,2,3"])
def test_places_that_cannot_be_are_refused_at_the_first_part(tmp_path, asked):
    plan = CommissionPlan(30, ignore=[asked], keep_images=tmp_path / "parts")
    with pytest.raises(SettingsError, match="--ignore"):
        commission("synthetic:", tmp_path / "model", plan)
    assert list((tmp_path / "parts").iterdir()) == []


def test_nothing_is_left_when_the_source_ends_too_soon(tmp_path, parts):
    for number, image in enumerate(parts[:3]):
        write_image(tmp_path / "parts" / f"{number}.png", image)
    with pytest.raises(EdgeadError, match="3 good images"):
        commission(str(tmp_path / "parts"), tmp_path / "model", CommissionPlan(20))
    assert [entry.name for entry in tmp_path.iterdir()] == ["parts"]


def test_duplicates_and_blurred_images_are_left_out(tmp_path, parts):
    rng = np.random.default_rng(0)
    noisy = np.clip(parts[2].astype(float) + rng.normal(0, 2, parts[2].shape), 0, 255).astype(np.uint8)
    blurred = cv2.GaussianBlur(parts[9], (0, 0), 2.5)
    found = collect(frames([*parts[:9], noisy, parts[0], blurred]), tmp_path, 12, patience_s=60)
    assert found.duplicates == 2
    assert found.blurred == ["000011.png"]
    assert [path.name for path in found.paths] == [f"{number:06d}.png" for number in range(9)]
    assert list_images(tmp_path) == found.paths  # so that an export from the folder finds what was learnt and held out
    assert (tmp_path / "blurred" / "000011.png").is_file()


def test_a_source_without_a_image(tmp_path):
    with pytest.raises(EdgeadError, match="ended without an image"):
        commission("synthetic:?count=0", tmp_path / "model", CommissionPlan(20))
    assert not list(tmp_path.iterdir())


def test_a_line_that_stands_still_is_not_waited_for_for_ever(tmp_path, parts):
    def still():
        number = 0
        while True:
            yield frame(parts[0], number)
            number += 1

    with pytest.raises(CommissionError, match="1 of 5 collected"):
        collect(still(), tmp_path, 5, patience_s=0.3)


def test_blurred_images_are_found():
    assert find_blurred([100.0] * 20) == []
    assert find_blurred([*[100.0, 98.0, 103.0] * 8, 20.0]) == [24]


@pytest.mark.parametrize(
    ("source", "opened"),
    [
        ("camera:0", "camera:0"),
        ("synthetic:", "synthetic:?defect_rate=0&count=1000000"),
        ("synthetic:?seed=3", "synthetic:?seed=3&defect_rate=0&count=1000000"),
        ("synthetic:?count=5&defect_rate=0.1", "synthetic:?count=5&defect_rate=0.1"),
    ],
)
def test_the_built_in_line_shows_good_parts(source, opened):
    assert _good_parts(source) == opened


def test_unknown_preset(tmp_path, parts):
    for number, image in enumerate(parts):
        write_image(tmp_path / "parts" / f"{number}.png", image)
    with pytest.raises(SettingsError, match="choose one of fast"):
        commission(str(tmp_path / "parts"), tmp_path / "model", CommissionPlan(10, "finest", false_reject_rate=0.3))


def test_command_warns(tmp_path, parts):
    for number, image in enumerate([*parts, parts[0]]):
        write_image(tmp_path / "parts" / f"{number}.png", image)
    options = ["--images", 11, "--false-reject-rate", 0.3]
    done = edgead("commission", tmp_path / "parts", "-o", tmp_path / "model", *options)
    assert "warning: 1 images showed a part once more" in done.stderr
    assert "About 1 good part in 3 will be rejected (about 30 %, from 10 images" in done.stdout
    assert f"\nNext:\n  edgead predict {tmp_path}/model IMAGES" in done.stdout and "edgead eval" not in done.stdout
