"""int8 as the graph that a training makes the default: where it is made, where fp32 stays, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
from edgead.export.calibration_images import CalibrationImages, find_calibration_images  # noqa: E402
from edgead.export.rewrite import ExportError, ToleranceError  # noqa: E402
from fakes import edit_manifest  # noqa: E402
from onnx.checker import ValidationError  # noqa: E402
from onnxruntime.capi.onnxruntime_pybind11_state import Fail  # noqa: E402
from test_cli import edgead, report  # noqa: E402

from edgead import kernels  # noqa: E402
from edgead.adapt.training.from_folder import train_from_folder  # noqa: E402
from edgead.adapt.training.good_images import GoodImages  # noqa: E402
from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.cli.advice import advise  # noqa: E402
from edgead.detector import Detector  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.training import int8  # noqa: E402


@pytest.fixture
def images(model_copy, line_data):
    return find_calibration_images(Artifact.load(model_copy), line_data)


@pytest.fixture
def asked(monkeypatch):
    """What would be exported; the CPU has instructions for it."""
    plans = []
    monkeypatch.setattr(kernels, "multiplies_int8", lambda: True)
    monkeypatch.setattr(
        int8, "add_precision", lambda path, plan, images, **_: plans.append(plan) or Artifact.load(path)
    )
    return plans


def test_it_is_made_and_opened_by_default(model_copy, images, asked):
    int8.ship_int8(Artifact.load(model_copy), images)
    assert [(plan.precision, plan.make_default, plan.least_gain) for plan in asked] == [("int8", True, 0.0)]


@pytest.mark.parametrize(("precision", "least_gain"), [("auto", int8.LEAST_GAIN), ("int8", 0.0)])
def test_with_avx2_alone_it_has_to_be_faster(model_copy, images, asked, monkeypatch, precision, least_gain):
    monkeypatch.setattr(kernels, "multiplies_int8", lambda: False)
    monkeypatch.setattr(kernels, "available_isas", lambda: ("baseline", "avx2"))
    int8.ship_int8(Artifact.load(model_copy), images, precision)
    assert [plan.least_gain for plan in asked] == [least_gain]


def test_what_is_hardly_faster_is_not_made(model_copy, images, monkeypatch, line_data):
    monkeypatch.setattr(kernels, "multiplies_int8", lambda: False)
    monkeypatch.setattr(kernels, "available_isas", lambda: ("baseline", "avx2"))
    times = iter([1.0, 9.0, 1.0, 9.0, 1.0, 9.0] + [1.09, 1.0] * 1000)  # the first frames do not count
    monkeypatch.setattr("edgead.export.precision._processor_s", lambda detector, frame: next(times))
    before = sorted(path.name for path in model_copy.iterdir())
    artifact = int8.ship_int8(Artifact.load(model_copy), images)
    assert sorted(path.name for path in model_copy.iterdir()) == before and artifact.manifest.precision == "fp32"
    assert "Frames run in fp32: the int8 graph is 1.09 times as fast on this CPU." in advise(artifact, line_data, False)


@pytest.mark.parametrize("reason", ["fp32 is asked for", "no instructions", "few images", "no convolution"])
def test_fp32_stays_without_a_word(model_copy, images, asked, monkeypatch, reason):
    precision = "fp32" if reason == "fp32 is asked for" else "auto"
    if reason == "no instructions":
        monkeypatch.setattr(kernels, "gains_by_int8", lambda: False)
    if reason == "few images":
        images = CalibrationImages(images.ranges[:15], images.held_out[:15], images.source)
    if reason == "no convolution":
        monkeypatch.setattr(int8, "not_for", lambda artifact, name: "has no convolution")
    artifact = Artifact.load(model_copy)
    assert int8.ship_int8(artifact, images, precision) is artifact and not asked


def test_scores_that_move_too_far_keep_fp32_and_the_model_says_so(model_copy, images, asked, monkeypatch, line_data):
    def refuse(*_, **__):
        raise ToleranceError("the int8 graph changes the scores of good images by 7 % of their value", "keep a layer")

    monkeypatch.setattr(int8, "add_precision", refuse)
    artifact = int8.ship_int8(Artifact.load(model_copy), images)
    assert artifact.manifest.precision == "fp32"
    said = "\n".join(advise(artifact, line_data, False))
    assert "Frames run in fp32: the int8 graph changes the scores of good images by 7 % of their value." in said
    with pytest.raises(ToleranceError, match="keep a layer; the model stays as it was"):
        int8.ship_int8(artifact, images, "int8")


@pytest.mark.parametrize(
    "fault, found",
    [
        (Fail("node conv1 is not supported\nat line 3"), "Fail: node conv1 is not supported"),
        (ValidationError("no opset"), "ValidationError: no opset"),
        (KeyError("conv1"), "KeyError: 'conv1'"),
        (ExportError("scores are NaN."), "scores are NaN"),
    ],
)
def test_a_quantiser_that_fails_leaves_the_finished_model(
    model_copy, images, asked, monkeypatch, line_data, caplog, fault, found
):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(int8, "add_precision", fail)
    artifact = int8.ship_int8(Artifact.load(model_copy), images)
    assert artifact.manifest.precision == "fp32" and found in caplog.text
    said = "\n".join(advise(artifact, line_data, False))
    assert f"Frames run in fp32: the int8 graph could not be made ({found})." in said
    with pytest.raises(type(fault)):
        int8.ship_int8(artifact, images, "int8")


@pytest.mark.parametrize(
    "options, what",
    [
        ({"precision": "fp16"}, "precision 'fp16': choose one of auto, fp32, int8"),
        ({"precision": "int8", "detector": "golden"}, "golden has none: leave out --precision int8"),
    ],
)
def test_what_cannot_be_is_refused_before_images_are_read(line_data, tmp_path, options, what):
    with pytest.raises(SettingsError, match=what):
        train_from_folder(GoodImages(line_data), tmp_path / "model", {}, **options)


def test_folds_leave_no_image_for_the_thresholds_of_int8(line_data, tmp_path):
    with pytest.raises(SettingsError, match="leave out --folds"):
        train_from_folder(GoodImages(line_data, folds=2), tmp_path / "m", {}, detector="simplenet", precision="int8")


def test_calibrate_says_which_limits_stay(model_copy):
    by_hand = ["--reject", "9", "--review", "8", "--yes", "--reason", "a test"]
    assert "stay as they were" not in edgead("calibrate", model_copy, *by_hand).stderr

    def ship(manifest):
        manifest["graphs"]["int8"] = manifest["graphs"]["fp32"]
        manifest["precision"] = "int8"

    edit_manifest(model_copy, ship)
    said = edgead("calibrate", model_copy, *by_hand).stderr
    assert "These are the limits of int8; those of fp32 stay as they were. Give --precision fp32 too" in said
    artifact = Artifact.load(model_copy)
    assert artifact.graph("int8").calibration.reject == 9
    assert "stay as they were" not in edgead("calibrate", model_copy, *by_hand, "--precision", "fp32").stderr


def test_what_int8_cannot_do_is_known_before_the_training(line_data, tmp_path):
    few = GoodImages(line_data, paths=sorted((line_data / "train" / "good").iterdir())[:12], false_reject_rate=0.2)
    with pytest.raises(SettingsError, match="int8 needs 16 good images, found 12"):
        train_from_folder(few, tmp_path / "model", {}, detector="simplenet", precision="int8")
    with pytest.raises(SettingsError, match="int8 would keep 256 levels of grey16"):
        train_from_folder(GoodImages(line_data, input="grey16"), tmp_path / "model", {}, precision="int8")


@pytest.mark.slow
def test_a_training_learns_in_int8(line_data, tmp_path):
    model = tmp_path / "model"
    options = ["--preset", "fast", "--image-size", "96", "--memory-bank-size", "500", "--precision", "int8"]
    facts = report("train", line_data, "-o", model, *options)
    artifact = Artifact.load(model)
    record = artifact.manifest.graphs["int8"]
    assert facts["precision"] == artifact.manifest.precision == artifact.manifest.learnt_in == "int8"
    assert facts["threshold"] == record.calibration.reject and artifact.precisions == ("int8",)
    assert record.calibration.method == "cross_conformal"
    with Detector.load(model) as detector:
        assert detector.graph.precision == "int8" and detector.threshold == record.calibration.reject
    images = sorted((line_data / "test").rglob("*.jpg"))
    with Detector.load(model, runtime="onnxruntime") as one, Detector.load(model, runtime="openvino") as other:
        scores = np.array([[each.predict(path).image_score for each in (one, other)] for path in images])
        # OpenVINO rounds sums of 8-bit products otherwise than ONNX Runtime, and this network is a small one.
        assert np.abs(np.diff(scores)).max() < record.score_tolerance * scores.max()
    edgead("export", model, line_data, "--precision", "fp32")
    assert Artifact.load(model).precisions == ("fp32",)
