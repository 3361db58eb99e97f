"""From torch to what ships: the graph, parity on real images, and faults that must be found."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import edit_manifest

onnx = pytest.importorskip("onnx", reason="exporting needs the workstation's packages")

from edgead.export.calibration_images import find_calibration_images  # noqa: E402
from edgead.export.precision import PrecisionPlan, add_precision  # noqa: E402
from edgead.export.rewrite import ExportError, rewrite_graph  # noqa: E402
from edgead.export.verify import ImageComparison, _parity, compare, compare_with_torch, replay_golden  # noqa: E402

from edgead import Detector  # noqa: E402
from edgead.adapt.frozen_backbone import PACKAGED  # noqa: E402
from edgead.adapt.recalibrate import thresholds_by_hand, write_thresholds  # noqa: E402
from edgead.adapt.training.from_folder import train_from_folder  # noqa: E402
from edgead.adapt.training.good_images import GoodImages  # noqa: E402
from edgead.artifact.folder import MANIFEST, Artifact, ArtifactError, write_manifest  # noqa: E402
from edgead.artifact.manifest import Manifest  # noqa: E402
from edgead.artifact.training_hashes import find_folds  # noqa: E402
from edgead.calibration.conformal import MARGIN, CalibrationError, conformal_threshold  # noqa: E402
from edgead.dataset.folders import DatasetError, find_good_images, find_test_images  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.files import load_image  # noqa: E402
from edgead.workstation.methods.load import load_network  # noqa: E402


class FakeCalibrated:
    graph = SimpleNamespace(calibration=SimpleNamespace(reject=1.0, review=1.0, scores=[-1, 0, 1, 3, 100]))
    artifact = SimpleNamespace(learnt_graph=graph)

    def measure(self, image):
        return SimpleNamespace(image_score=1.0, anomaly_map=np.zeros((2, 2)))


def stamp(path) -> Artifact:
    """Write the hashes of the files as they are now, as if the artifact had been made like this."""
    write_manifest(path, Manifest.model_validate_json((path / MANIFEST).read_text()))
    return Artifact.load(path)


def change_a_weight(path, graph="model.onnx") -> None:
    model = onnx.load(path / graph)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 3
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, path / graph)


def test_graph_contract(trained_model):
    model = onnx.load(trained_model / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    (image, *learnt), (features,) = model.graph.input, model.graph.output
    assert (image.name, features.name) == ("image", "features")
    assert [one.name for one in learnt] == ["mean", "inverse_std", "squared_length", "metric"]
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert features.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    shape = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert shape == ["batch", 160, 160, 3]
    properties = {prop.key: prop.value for prop in model.metadata_props}
    manifest = Artifact.load(trained_model).manifest
    assert json.loads(properties["edgead.preprocessing"]) == json.loads(manifest.preprocessing.model_dump_json())
    assert json.loads(properties["edgead.scoring"]) == json.loads(manifest.head.model_dump_json())


def test_a_graph_tells_nothing_of_the_machine_that_made_it(trained_model):
    assert b"site-packages" not in (trained_model / "model.onnx").read_bytes()
    for file in PACKAGED.glob("*.onnx"):
        assert b"site-packages" not in file.read_bytes()


def test_any_batch_gives_the_same_features(trained_model):
    import onnxruntime

    session = onnxruntime.InferenceSession(Artifact.load(trained_model).graph("fp32").read_whole())
    images = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), np.uint8)
    (together,) = session.run(None, {"image": images})
    for image, features in zip(images, together, strict=True):
        np.testing.assert_allclose(session.run(None, {"image": image[None]})[0][0], features, atol=1e-5)


def test_torch_and_deployed_agree(trained_model, line_data):
    paths = [image.path for image in find_test_images(line_data)]
    parity = compare_with_torch(Artifact.load(trained_model), paths)
    assert parity.images == 20
    assert parity.passed and parity.score_error <= 1e-4 and parity.verdict_flips == 0


@pytest.mark.slow
def test_every_part_of_the_score_agrees(line_data, tmp_path):
    settings = {"backbone": "efficientnet_lite0", "image_size": (96, 96), "memory_bank_size": 200}
    parts = {"num_neighbors": 2, "window": 2, "top_patches": 3, "margin": 2}
    artifact, _ = train_from_folder(
        GoodImages(line_data, false_reject_rate=0.05), tmp_path / "model", {**settings, **parts}
    )
    parity = compare_with_torch(artifact, [image.path for image in find_test_images(line_data)])
    assert parity.passed, parity


def test_golden_images_replay(trained_model):
    artifact = Artifact.load(trained_model)
    assert len(artifact.graph("fp32").golden) == 3
    parity = replay_golden(artifact)
    assert parity.passed and parity.score_error < 1e-6


def test_one_changed_weight_is_found(model_copy):
    change_a_weight(model_copy)
    artifact = stamp(model_copy)
    assert not compare_with_torch(artifact).passed
    assert not replay_golden(artifact).passed


def test_a_score_that_is_not_a_number_fails():
    compared = compare("b", (math.nan, np.zeros((2, 2))), FakeCalibrated(), None)
    rows = [ImageComparison("a", 1.0, 0.0, 0.0, False), compared]
    assert not _parity(rows).passed
    with pytest.raises(ArtifactError, match="no image to compare"):
        _parity([])


def test_score_error_is_relative_to_the_score_or_to_the_spread_of_good_scores():
    def error(score):
        return compare("a", (score, np.zeros((2, 2))), FakeCalibrated(), None).score_error

    assert error(8.0) == pytest.approx(7 / 8)
    assert error(1e-9) == pytest.approx(1 / 3)


def test_a_model_of_before_some_settings_went_is_rebuilt(model_copy):
    gone = {"augment": ["flips"], "reweight_neighbors": 0, "global_weight": 0.0, "global_layers": ["stride32"]}
    edit_manifest(model_copy, lambda manifest: manifest["training"]["settings"].update(gone))
    edit_manifest(model_copy, lambda manifest: manifest["head"].update(reweight_neighbors=0, graph_weight=0.0))
    assert compare_with_torch(Artifact.load(model_copy)).passed


def test_settings_and_weights_that_do_not_fit(model_copy):
    edit_manifest(model_copy, lambda manifest: manifest["training"]["settings"].update(layers=["stride8"]))
    with pytest.raises(ArtifactError, match="do not fit"):
        compare_with_torch(Artifact.load(model_copy))
    edit_manifest(model_copy, lambda manifest: manifest["training"].pop("settings"))
    with pytest.raises(ArtifactError, match="do not fit"):
        compare_with_torch(Artifact.load(model_copy))


def test_rewriting_restores_the_graph(model_copy, trained_model):
    change_a_weight(model_copy)
    stamp(model_copy)
    artifact = rewrite_graph(model_copy)
    assert replay_golden(artifact).passed
    assert artifact.graph("fp32").calibration == Artifact.load(trained_model).graph("fp32").calibration


def test_what_was_calibrated_meanwhile_is_not_lost(model_copy, line_data, monkeypatch):
    def set_threshold(*_) -> None:
        artifact = Artifact.load(model_copy)
        write_thresholds(artifact, *thresholds_by_hand(artifact, None, reject=3.0), reason="as asked")

    def replay(draft):
        set_threshold()
        return replay_golden(draft)

    monkeypatch.setattr("edgead.export.rewrite.replay_golden", replay)
    with pytest.raises(SettingsError, match="changed since it was opened"):
        rewrite_graph(model_copy)
    images = find_calibration_images(Artifact.load(model_copy), line_data)
    with pytest.raises(SettingsError, match="changed since it was opened"):
        add_precision(model_copy, PrecisionPlan("fp16", tolerance=0.1), images, progress=set_threshold)
    manifest = Artifact.load(model_copy).manifest
    assert list(manifest.graphs) == ["fp32"] and manifest.graphs["fp32"].calibration.reject == 3.0


@pytest.mark.slow
def test_rewriting_refuses_when_thresholds_would_not_hold(model_copy, monkeypatch):
    network = load_network(Artifact.load(model_copy))
    network.backbone.stages["stem"][0].weight.mul_(1.5)
    monkeypatch.setattr("edgead.export.rewrite.load_network", lambda artifact: network)
    before = (model_copy / "model.onnx").read_bytes()
    with pytest.raises(ExportError, match="its thresholds would not hold"):
        rewrite_graph(model_copy)
    assert (model_copy / "model.onnx").read_bytes() == before
    Artifact.load(model_copy)


def test_a_copy_without_the_weights_of_a_network(model_copy):
    edit_manifest(model_copy, lambda manifest: manifest.update(detector="mvg"))
    edit_manifest(model_copy, lambda manifest: manifest["training"].update(settings={"image_size": [64, 64]}))
    Detector.load(model_copy).close()
    with pytest.raises(ArtifactError, match=r"holds no weights.safetensors that its manifest lists"):
        load_network(Artifact.load(model_copy))


def test_thresholds_come_from_the_shipped_detector(trained_model, line_data):
    artifact = Artifact.load(trained_model)
    training = artifact.manifest.training
    assert training["calibration_images"] == training["training_images"] == 60
    paths = find_good_images(line_data)
    folds = find_folds(artifact, paths)
    with Detector(artifact) as detector:
        scores = [detector.measure_left_out(load_image(path), folds[path]).image_score for path in paths]
    calibration = artifact.graph("fp32").calibration
    # To the last bit: torch's scores differ from these in the seventh digit.
    assert calibration.scores == sorted(scores)
    assert calibration.reject == pytest.approx(conformal_threshold(calibration.scores, 0.05) * (1 + MARGIN), rel=1e-12)


@pytest.mark.slow
def test_failed_training_writes_nothing(line_data, tmp_path):
    out = tmp_path / "model"
    settings = {"backbone": "efficientnet_lite0", "image_size": (64, 64)}
    with pytest.raises(CalibrationError, match="needs 999 good images, found 60"):
        train_from_folder(GoodImages(line_data, false_reject_rate=0.001), out, settings)
    with pytest.raises(DatasetError):
        train_from_folder(GoodImages(line_data / "test"), out, settings)

    def interrupt(stage, done, total):
        if stage == "calibrate":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_from_folder(GoodImages(line_data), out, {**settings, "memory_bank_size": 50}, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_leaves_nothing(line_data, small_disk):
    settings = {"backbone": "efficientnet_lite0", "image_size": (64, 64), "memory_bank_size": 50}
    with pytest.raises(OSError):
        train_from_folder(GoodImages(line_data), small_disk / "model", settings)
    assert list(small_disk.iterdir()) == []


def test_the_folder_that_training_named_is_known_from_the_model(trained_model, line_data, tmp_path):
    (tmp_path / "ok").symlink_to(line_data / "train" / "good")
    opened = Artifact.load(trained_model)
    with pytest.raises(DatasetError, match="no folder train/good"):
        find_calibration_images(opened, tmp_path)
    training = {**opened.manifest.training, "normal_dir": "ok"}
    named = Artifact(opened.path, opened.manifest.model_copy(update={"training": training}))
    assert find_calibration_images(named, tmp_path).source == "training data"
    assert find_calibration_images(opened, tmp_path, "ok").source == "training data"
