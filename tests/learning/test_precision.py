"""An artifact with graphs of several precisions: thresholds of each, refusals, and every pair beside torch."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from fakes import edit_manifest

onnx = pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
pytest.importorskip("openvino", reason="OPENVINO NOT TESTED")
from edgead.export.calibration_images import CalibrationImages, RangeImages, find_calibration_images  # noqa: E402
from edgead.export.int8_search import MOST_IN_FLOAT  # noqa: E402
from edgead.export.precision import PrecisionPlan, add_precision, search_images  # noqa: E402
from edgead.export.rewrite import ExportError  # noqa: E402
from edgead.export.verify import replay_golden  # noqa: E402
from edgead.export.verify_matrix import all_pairs, verify_pairs  # noqa: E402
from test_cli import edgead, report  # noqa: E402
from test_export import change_a_weight, stamp  # noqa: E402

from edgead import Detector  # noqa: E402
from edgead.adapt.training.from_folder import train_from_folder  # noqa: E402
from edgead.adapt.training.good_images import GoodImages  # noqa: E402
from edgead.artifact.folder import Artifact, ArtifactError  # noqa: E402
from edgead.artifact.inputs import Preprocessing, Tiling  # noqa: E402
from edgead.calibration.conformal import MARGIN, CalibrationError, conformal_threshold  # noqa: E402
from edgead.dataset.folders import find_test_images  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.files import load_image, write_image  # noqa: E402
from edgead.synthetic.line import render  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained_model(line_data, once):
    """A network that was trained, with a fifth of the images held out, whose scores by the graph that ships count."""
    settings = {
        "backbone": "efficientnet_lite0",
        "image_size": (160, 160),
        "hidden": 32,
        "batch_patches": 64,
        "steps": 60,
    }
    good = GoodImages(line_data, false_reject_rate=0.05, guarantee="split")
    return once(
        "simplenet-split", lambda path: train_from_folder(good, path, settings, detector="simplenet", precision="fp32")
    )


@pytest.fixture(scope="module")
def images(trained_model, line_data):
    return find_calibration_images(Artifact.load(trained_model), line_data)


@pytest.fixture(scope="module")
def model(trained_model, images, once):
    """The trained model with an fp16 and an int8 graph."""

    def add_both(path):
        shutil.copytree(trained_model, path)
        add_precision(path, PrecisionPlan("fp16", 0.05), images)
        add_precision(path, PrecisionPlan("int8", 0.1, make_default=True), images)

    return once("precision", add_both)


@pytest.fixture
def copy(model, tmp_path):
    return shutil.copytree(model, tmp_path / "model")


@pytest.mark.slow
def test_the_images_are_those_that_training_held_out(trained_model, images, line_data, tmp_path):
    manifest = Artifact.load(trained_model).manifest
    assert images.source == "training data" and len(images.held_out) == manifest.training["calibration_images"]
    with Detector.load(trained_model) as detector:
        scores = sorted(detector.measure(load_image(path)).image_score for path in images.held_out)
    assert scores == manifest.graphs["fp32"].calibration.scores
    strict = manifest.graphs["fp32"].calibration.model_copy(update={"false_reject_rate": 0.001})
    guarantees_more = Artifact(trained_model, manifest.with_graph("fp32", calibration=strict))
    with pytest.raises(CalibrationError, match="999"):
        find_calibration_images(guarantees_more, line_data)
    # Whatever else lies there, what was learnt calibrates nothing.
    good = shutil.copytree(line_data / "train" / "good", tmp_path / "good")
    (good / images.ranges[0].name).unlink()
    write_image(good / "another.png", render(1)[0])
    other = find_calibration_images(Artifact.load(trained_model), tmp_path, "good")
    assert other.source == "other images" and len(other.ranges) == len(images.ranges)
    assert {path.name for path in other.held_out} < {"another.png"} | {path.name for path in images.held_out}
    for path in images.held_out[:3]:
        (good / path.name).unlink()
    with pytest.raises(CalibrationError, match="needs 19 held-out good images, found 17"):
        find_calibration_images(Artifact.load(trained_model), tmp_path, "good")
    for path in good.iterdir():
        path.unlink()
    for seed in range(60):
        write_image(good / f"{seed}.png", render(seed)[0])
    foreign = find_calibration_images(Artifact.load(trained_model), tmp_path, "good")
    assert (len(foreign.ranges), len(foreign.held_out)) == (41, 19)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_thresholds_come_from_the_graph_that_ships(model, images, precision):
    artifact = Artifact.load(model)
    record = artifact.manifest.graphs[precision]
    with Detector.load(model, precision=precision) as detector:
        scores = sorted(detector.measure(load_image(path)).image_score for path in images.held_out)
        verdict = detector.predict(load_image(images.held_out[0]))
    assert record.calibration.scores == scores != artifact.graph("fp32").calibration.scores
    assert record.calibration.reject == pytest.approx(conformal_threshold(scores, 0.05) * (1 + MARGIN), rel=1e-12)
    assert verdict.threshold == record.calibration.reject
    assert replay_golden(artifact, precision=precision).score_error == 0
    assert record.method["differences"]["mean_score_error"] <= record.score_tolerance


def test_the_record_tells_how_the_graph_was_made(model):
    method = Artifact.load(model).manifest.graphs["int8"].method
    assert method["score_error_of_all_layers"] > 0
    assert len(method["float_layers"]) <= MOST_IN_FLOAT and method["image_source"] == "training data"
    properties = {prop.key: prop.value for prop in onnx.load(model / "model.int8.onnx").metadata_props}
    assert properties["edgead.precision"] == "int8"
    assert "edgead.scoring" in properties


def test_the_graph_that_opens_by_default_is_the_one_the_manifest_names(model, trained_model):
    with Detector.load(model) as detector, Detector.load(trained_model) as other:
        assert (detector.graph.precision, other.graph.precision) == ("int8", "fp32")
        assert detector.graph.path.name == "model.int8.onnx"


def test_a_precision_that_is_not_there(model, trained_model):
    with pytest.raises(SettingsError, match="has no int8 graph, it has fp32: make it with `edgead export"):
        Detector.load(trained_model, precision="int8")
    with pytest.raises(SettingsError, match="has no fp8 graph, it has fp32, fp16, int8: precisions are"):
        Detector.load(model, precision="fp8")


def test_a_graph_that_is_missing(copy):
    edit_manifest(copy, lambda manifest: manifest["files"].pop("model.int8.onnx"))
    with pytest.raises(ArtifactError, match="lists no model.int8.onnx"):
        Artifact.load(copy)


@pytest.mark.slow
def test_a_broken_tolerance_changes_nothing(copy, images):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(ExportError, match="allow more with --tolerance; the model stays as it was"):
        add_precision(copy, PrecisionPlan("int8", 1e-6), images)
    with pytest.raises(ExportError, match="allow more with --tolerance; the model stays as it was"):
        add_precision(copy, PrecisionPlan("fp16", 1e-9), images)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_every_pair_is_compared_with_torch(model, line_data):
    artifact = Artifact.load(model)
    pairs = all_pairs(artifact)
    assert pairs == [(r, p) for p in ("fp32", "fp16", "int8") for r in ("onnxruntime", "openvino")]
    reports = verify_pairs(artifact, pairs, find_test_images(line_data))
    assert [report.faults for report in reports] == [[]] * 6
    by_pair = {(report.runtime, report.precision): report for report in reports}
    assert by_pair["openvino", "fp32"].worst_score_error < 1e-5 < by_pair["openvino", "fp16"].worst_score_error
    assert by_pair["onnxruntime", "fp16"].worst_score_error < by_pair["onnxruntime", "int8"].worst_score_error
    assert by_pair["onnxruntime", "int8"].size_mib < by_pair["onnxruntime", "fp32"].size_mib / 2
    fp32 = by_pair["onnxruntime", "fp32"]
    assert fp32.AUROC_change == 0 and 0.5 < fp32.image_AUROC <= 1 and 0 < fp32.network_ms < fp32.frame_ms


def test_a_changed_weight_is_found_where_it_is(copy):
    change_a_weight(copy, "model.int8.onnx")
    reports = verify_pairs(stamp(copy), [("onnxruntime", "fp32"), ("onnxruntime", "int8")], golden(copy))
    assert [report.passed for report in reports] == [True, False]
    assert "weights are not those of the fp32 graph" in " ".join(reports[1].faults)


@pytest.mark.slow
def test_the_command(copy):
    assert "trained on, as in `edgead export" in edgead("export", copy, "--precision", "int8", code=2).stderr
    for precision, runtime in (("fp32", "openvino"), ("int8", "onnxruntime")):
        reported = report("predict", copy, *golden(copy), "--precision", precision, "--runtime", runtime)["images"]
        expected = [shown.image_score for shown in Artifact.load(copy).graph(precision).golden]
        np.testing.assert_allclose([row["image_score"] for row in reported], expected, rtol=1e-5)
    change_a_weight(copy)
    stamp(copy)
    table = edgead("verify", copy, "--all", code=1).stdout
    assert table.count("FAILED") >= 2 and "fp32 on openvino: score error" in table


def golden(path):
    return [path / shown.image for shown in Artifact.load(path).graph("fp32").golden]


def test_ranges_come_from_good_images_and_from_drawn_anomalies():
    good = [np.full((64, 64, 3), 50 + number, np.uint8) for number in range(4)]
    images = RangeImages(good)
    assert len(images) == 4
    for number, image in enumerate(images):
        assert image.dtype == np.uint8 and image.shape == (64, 64, 3)
        assert np.array_equal(image, good[number]) == (number % 2 == 0)
        np.testing.assert_array_equal(image, RangeImages(good)[number])


@pytest.mark.parametrize(("side", "searched"), [(64, 48), (32, 12), (16, 8)])
def test_the_search_looks_at_fewer_frames_where_each_is_many_tiles(tmp_path, side, searched):
    paths = [tmp_path / f"{number}.png" for number in range(60)]
    write_image(paths[0], np.zeros((64, 64, 3), np.uint8))
    tiles = Tiling(size=(side, side), overlap=(0, 0)) if side < 64 else None
    images = search_images(CalibrationImages([], paths, "tests"), Preprocessing(image_size=(16, 16), tiles=tiles))
    assert len(images.held_out) == searched
