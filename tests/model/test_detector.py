"""The detector on a real artifact: decisions, boxes, odd images, one answer for one image."""

from __future__ import annotations

import re
import sys

import cv2
import numpy as np
import pytest
from fakes import edit_manifest

from edgead import Detector
from edgead.artifact.folder import Artifact, ArtifactError, write_manifest
from edgead.dataset.folders import find_test_images
from edgead.errors import SettingsError
from edgead.images.files import ImageError, load_image
from edgead.process.installation import install_command
from edgead.runtime import open_runtime
from edgead.synthetic import SIZE


@pytest.fixture(params=["onnxruntime", "openvino"])  # test_tensorrt.py has the third, which needs a GPU
def runtime(request):
    pytest.importorskip(request.param, reason=f"{request.param.upper()} NOT TESTED")
    return request.param


@pytest.fixture
def detector(trained_model, runtime):
    with Detector.load(trained_model, runtime=runtime) as detector:
        yield detector


@pytest.fixture
def part(line_data):
    return load_image(line_data / "test" / "good" / "000.jpg")


def test_verdict(detector, part):
    verdict = detector.predict(part)
    limits = detector.graph.calibration
    assert verdict.anomaly_map.shape == (160, 160)
    assert verdict.anomaly_map.dtype == np.float32
    assert verdict.threshold == limits.reject
    assert verdict.decision == ("reject" if verdict.image_score > limits.reject else "ok")
    times = verdict.stage_times
    assert min(times.preprocess_ms, times.infer_ms, times.score_ms, times.smooth_ms) > 0
    assert times.age_ms is times.sink_ms is None


def test_defects_score_higher(detector, line_data):
    scores = {}
    for image in find_test_images(line_data):
        scores.setdefault(image.is_defective, []).append(detector.predict(load_image(image.path)).image_score)
    assert np.median(scores[True]) > np.median(scores[False])


def test_same_image_same_score(detector, part):
    first, other = detector.predict(part), detector.predict(np.zeros_like(part))
    again = detector.predict(part)
    assert first.image_score == again.image_score != other.image_score
    # A verdict keeps its map: the next frame must not write into it.
    np.testing.assert_array_equal(first.anomaly_map, again.anomaly_map)
    assert not np.array_equal(first.anomaly_map, other.anomaly_map)


def test_grey_alpha_and_16_bit_are_the_same_image(detector, part):
    grey = cv2.cvtColor(part, cv2.COLOR_BGR2GRAY)
    expected = detector.predict(np.repeat(grey[:, :, None], 3, axis=2)).image_score
    assert detector.predict(grey).image_score == expected
    assert detector.predict(grey.astype(np.uint16) * 257).image_score == expected
    assert detector.predict(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGRA)).image_score == expected


def test_mixed_sizes(detector, part):
    for size in ((31, 17), (160, 160), (1000, 50)):
        verdict = detector.predict(cv2.resize(part, size))
        assert np.isfinite(verdict.image_score)
        for box in verdict.boxes:
            assert 0 <= box.x < box.x + box.width <= size[0]
            assert 0 <= box.y < box.y + box.height <= size[1]


def test_refused_images(detector, part):
    for bad in (part.astype(np.float32), part[:0], part[0, 0, 0], np.full((9, 9), np.nan)):
        with pytest.raises(ImageError):
            detector.predict(bad)


def test_boxes_surround_what_is_above_the_threshold(detector, part):
    spoiled = part.copy()
    spoiled[40:110, 300:400] = (0, 0, 255)
    verdict = detector.predict(spoiled)
    assert verdict.decision == "reject"
    assert verdict.boxes[0].peak == verdict.anomaly_map.max()
    assert [box.peak for box in verdict.boxes] == sorted((box.peak for box in verdict.boxes), reverse=True)
    rows, columns = np.nonzero(verdict.anomaly_map > verdict.map_threshold)
    for row, column in zip(rows * SIZE[0] / 160, columns * SIZE[1] / 160, strict=True):
        assert any(b.x <= column < b.x + b.width and b.y <= row < b.y + b.height for b in verdict.boxes)


def test_uncalibrated_model(model_copy):
    edit_manifest(model_copy, lambda manifest: manifest["graphs"]["fp32"].update(calibration=None))
    with pytest.raises(ArtifactError, match="no thresholds"):
        Detector.load(model_copy)


def test_unknown_runtime(trained_model):
    with pytest.raises(SettingsError, match="unknown runtime 'abacus'"):
        Detector.load(trained_model, runtime="abacus")


@pytest.mark.parametrize("change", [{"image_size": [128, 128]}, {"image_size": [160, 128]}])
def test_graph_and_manifest_that_do_not_fit(model_copy, runtime, change):
    edit_manifest(model_copy, lambda manifest: manifest["inputs"][0]["preprocessing"].update(change))
    with pytest.raises(ArtifactError, match="takes images of shape .*edgead export"):
        Detector.load(model_copy, runtime=runtime)


def test_outputs_and_manifest_that_do_not_fit(model_copy, runtime):
    edit_manifest(model_copy, lambda manifest: manifest.update(head={"kind": "map"}))
    with pytest.raises(ArtifactError, match="output 'features', the manifest says 'patch_scores'.*edgead export"):
        Detector.load(model_copy, runtime=runtime)


def test_a_network_that_the_engine_refuses(model_copy, runtime):
    manifest = Artifact.load(model_copy).manifest
    (model_copy / "model.onnx").write_bytes(b"\x08\x08")  # an ONNX file without a graph
    write_manifest(model_copy, manifest)
    with pytest.raises(ArtifactError, match="cannot be opened by (ONNX Runtime|OpenVINO)"):
        Detector.load(model_copy, runtime=runtime)


def test_runtimes_agree(trained_model, part, runtime):
    with Detector.load(trained_model) as first, Detector.load(trained_model, runtime=runtime) as other:
        expected, measured = first.measure(part), other.measure(part)
    assert measured.image_score == pytest.approx(expected.image_score, rel=1e-5)
    np.testing.assert_allclose(measured.anomaly_map, expected.anomaly_map, rtol=1e-4)


def test_an_image_that_is_not_the_input_buffer_is_copied_into_it(trained_model, runtime):
    engine = open_runtime(Artifact.load(trained_model), runtime, threads=1)
    image = np.random.default_rng(0).integers(0, 256, engine.input.shape, np.uint8)
    from_copy = engine.run(image)["features"].copy()
    assert np.array_equal(engine.input, image)
    np.testing.assert_array_equal(engine.run(engine.input)["features"], from_copy)
    with pytest.raises(TypeError, match="Cannot cast"):
        engine.run(image.astype(np.float32))
    engine.close()


def test_an_engine_that_is_not_installed(trained_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SettingsError, match=re.escape(install_command("openvino"))):
        Detector.load(trained_model, runtime="openvino")


@pytest.fixture
def filled_model(model_copy):
    """The model with an input that is filled up by reflection; its golden images were scored otherwise."""
    manifest = Artifact.load(model_copy).manifest
    write_manifest(model_copy, manifest.with_preprocessing(fill="reflect"))
    return model_copy


def test_of_a_filled_input_the_map_covers_the_image_alone(filled_model, runtime, part):
    band = part[SIZE[0] // 4 : SIZE[0] // 2].copy()
    cv2.circle(band, (SIZE[0] // 3, SIZE[0] // 8), SIZE[0] // 20, (255, 0, 255), -1)
    with Detector.load(filled_model, runtime=runtime) as detector:
        detector.set_thresholds(review=0, reject=0)
        verdict = detector.predict(band)
        assert detector.measure(band).map_maximum == verdict.anomaly_map.max()
    assert verdict.anomaly_map.shape == (40, 160)
    box = verdict.boxes[0]
    assert box.x < SIZE[0] // 3 < box.x + box.width and box.y < SIZE[0] // 8 < box.y + box.height


def test_a_filled_input_is_verified_against_the_network(filled_model, part, tmp_path):
    from edgead.export.verify import compare_with_torch

    paths = [tmp_path / "wide.png", tmp_path / "tall.png"]
    for path, size in zip(paths, [(400, 100), (100, 300)], strict=True):
        cv2.imwrite(str(path), cv2.resize(part, size))
    assert compare_with_torch(Artifact.load(filled_model), paths).passed
