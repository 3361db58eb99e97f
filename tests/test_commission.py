"""From a camera to a calibrated model on the device: without torch, and equal to what torch would have made."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_cli import edgead
from test_imports import REFUSE, run

from edgead import Detector
from edgead.adapt.commission import from_images
from edgead.adapt.commission.collect import CommissionError, collect, find_blurred, find_odd
from edgead.adapt.commission.from_images import CommissionPlan
from edgead.adapt.commission.run import _good_parts, commission
from edgead.adapt.frozen_backbone import PACKAGED, open_backbone, packaged_backbones
from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import alignment_to, preprocess
from edgead.calibration.conformal import CalibrationError
from edgead.dataset.folders import DatasetError, no_progress
from edgead.dataset.places import read_ignored
from edgead.errors import EdgeadError, SettingsError
from edgead.heads import read_head
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
    assert len(manifest.graphs["fp32"].calibration.scores) == 30
    assert manifest.graphs["fp32"].calibration.false_reject_rate == 0.1
    training = manifest.training
    assert len(training["highest_images"]) == max(5, training["images_apart"])
    assert not {*training["highest_images"]} & {*training["commissioned"]["odd"]}
    with Detector.load(commissioned) as detector:
        good = [detector.predict(image).image_score for image, _, _ in conveyor(9, 8, 0.0)]
        flawed = [detector.predict(image).image_score for image, _, defect in conveyor(9, 60, 0.3) if defect]
    assert np.median(flawed) > np.median(good)
    assert not list(commissioned.parent.glob(".*"))


def test_scores_like_torch(commissioned):
    pytest.importorskip("torch", reason="TORCH NOT COMPARED: it needs the workstation's packages")
    from edgead.export.verify import compare_with_torch

    golden = sorted((commissioned / "golden").glob("*.png"))
    assert compare_with_torch(Artifact.load(commissioned), golden).passed


def sum_of_squares(tensor) -> float:
    from onnx import numpy_helper

    return float(np.square(numpy_helper.to_array(tensor), dtype=np.float64).sum())


@pytest.mark.slow  # exports a network
def test_the_packaged_graph_is_what_the_export_gives(tmp_path):
    torch = pytest.importorskip(
        "torch", reason="THE PACKAGED BACKBONE IS NOT CHECKED: it needs the workstation's packages"
    )
    import onnx
    import onnxruntime
    from edgead.export.backbone import write_backbone

    assert packaged_backbones() == ["fast"]
    write_backbone("fast", tmp_path)
    committed, exported = (json.loads((folder / "fast.json").read_text()) for folder in (PACKAGED, tmp_path))
    for key, read in (
        ("channels", list),
        ("settings", dict),
        ("preprocessing", Preprocessing.model_validate),
        ("head", read_head),
    ):
        assert read(committed[key]) == read(exported[key])
    graphs = [(folder / "fast.onnx").read_bytes() for folder in (PACKAGED, tmp_path)]
    # Names of constants are the exporter's and may change with it; what they hold may not.
    sums = [sorted(map(sum_of_squares, onnx.load_from_string(graph).graph.initializer)) for graph in graphs]
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-6)
    backbone = open_backbone("fast")
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    sessions = [onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]) for graph in graphs]
    given = {"image": image, **backbone.inputs(backbone.neutral())}
    outputs = [session.run(None, given)[0] for session in sessions]
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-4 * np.abs(outputs[1]).max())

    from edgead.workstation.methods.patchcore.detector import PatchCore

    network = PatchCore.from_settings(committed["settings"]).network
    with torch.inference_mode():
        raw = network.raw_features(torch.from_numpy(image)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(outputs[0] * backbone.raw_factor, raw, rtol=1e-4, atol=1e-4 * np.abs(raw).max())
    assert backbone.channels == network.channels == [40, 112]


def test_a_region_outside_the_image_is_refused_at_the_first_part(tmp_path):
    plan = CommissionPlan(30, roi=(0, 0, 9999, 100), keep_images=tmp_path / "parts")
    with pytest.raises(DatasetError, match="ends at 9999, 100, but frame 0 has 480 x 480 pixels"):
        commission("synthetic:", tmp_path / "model", plan)
    assert list((tmp_path / "parts").iterdir()) == []


@pytest.mark.slow
def test_a_backbone_is_taken_from_a_model(commissioned, tmp_path):
    again = tmp_path / "again"
    source = f"{commissioned}/calibration"
    with pytest.raises(CalibrationError, match="needs"):
        commission(source, again, CommissionPlan(6, str(commissioned), false_reject_rate=0.1))
    done = commission("synthetic:?seed=4", again, CommissionPlan(20, str(commissioned), false_reject_rate=0.2))
    first, second = (Artifact.load(path) for path in (commissioned, again))
    assert first.graph().read() == second.graph().read()
    learnt = first.graph().arrays
    assert list(learnt) == ["mean", "inverse_std", "squared_length", "metric"]
    for name, file in learnt.items():
        assert not np.array_equal(file.read(), second.graph().arrays[name].read())
    assert done.artifact.manifest.training["backbone"] == commissioned.name


def test_an_earlier_model_gives_no_backbone(tmp_path):
    earlier = Path(__file__).parent / "fixtures" / "tiny_model"
    with pytest.raises(SettingsError, match=r"by an earlier edgead.*Retrain it, or name a packaged backbone \(fast"):
        commission("synthetic:", tmp_path / "model", CommissionPlan(backbone=str(earlier)))


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


def test_an_odd_image_leaves_the_others_in_their_folds(tmp_path, parts, monkeypatch):
    """Or the metric that a fold is scored in would have learnt from its images."""
    backbone = open_backbone(next(iter(packaged_backbones())))
    spec = backbone.manifest(None).preprocessing
    seen = [preprocess(image, spec) for image in parts[:5]]
    learnt = []
    for number, odd in enumerate(([], [3])):
        monkeypatch.setattr(from_images, "find_odd", lambda scores, odd=odd: odd)
        draft = tmp_path / str(number)
        draft.mkdir()
        manifest, left_out, folds = from_images.learn(
            draft, backbone.manifest(None), backbone, seen, range(5), no_progress
        )
        assert (left_out, manifest.head.folds) == (odd, 5)
        learnt.append((folds, {name: np.load(draft / file) for name, file in manifest.arrays.items()}))
    (before, of_all), (after, without) = learnt
    assert before == after and sorted(before) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(of_all["fold_metrics"], without["fold_metrics"])
    assert set(np.unique(without["bank_folds"])) == set(after) - {after[3]}


def test_odd_ones_out():
    scores = np.random.default_rng(0).normal(1, 0.05, 50)
    assert find_odd(scores) == []
    scores[[3, 40]] = 2.5
    assert find_odd(scores) == [3, 40]
    assert find_blurred([100.0] * 20) == []


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


def test_unknown_backbone(tmp_path):
    with pytest.raises(SettingsError, match="choose fast"):
        commission("synthetic:", tmp_path / "model", CommissionPlan(backbone="resnet18"))


def test_command_warns(tmp_path, parts):
    for number, image in enumerate([*parts, parts[0]]):
        write_image(tmp_path / "parts" / f"{number}.png", image)
    options = ["--images", 11, "--false-reject-rate", 0.3]
    done = edgead("commission", tmp_path / "parts", "-o", tmp_path / "model", *options)
    assert "warning: 1 images showed a part once more" in done.stderr
    assert "About 1 good part in 3 will be rejected (about 30 %, from 10 images" in done.stdout
    assert f"\nNext:\n  edgead predict {tmp_path}/model IMAGES" in done.stdout and "edgead eval" not in done.stdout
