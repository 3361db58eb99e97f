"""What a graph takes beside the image: a model whose graph holds it as constants judges alike, on every runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="graphs are made by the workstation's packages")

from edgead.artifact.earlier_versions import versions_folder
from edgead.artifact.folder import Artifact, write_arrays, write_manifest
from edgead.artifact.identity import scored_alike, scorer_sha256
from edgead.detector import Detector
from edgead.runtime import open_runtime

LEARNT = ["mean", "inverse_std", "squared_length", "metric"]


@pytest.fixture
def whole(trained_model, tmp_path) -> Path:
    """The model as an earlier edgead wrote it: what it learnt is in the graph."""
    path = Path(shutil.copytree(trained_model, tmp_path / "whole"))
    artifact = Artifact.load(path)
    artifact.model_path.write_bytes(artifact.graph("fp32").read_whole())
    for name in LEARNT:
        (path / f"{name}.npy").unlink()
    arrays = {name: file for name, file in artifact.manifest.arrays.items() if name not in LEARNT}
    write_manifest(path, artifact.manifest.model_copy(update={"arrays": arrays}).with_graph("fp32", arrays=()))
    return path


def test_training_leaves_what_is_learnt_out_of_the_graph(trained_model):

    manifest = Artifact.load(trained_model).manifest
    assert list(manifest.graphs["fp32"].arrays) == LEARNT
    assert {f"{name}.npy" for name in LEARNT} <= manifest.files.keys()
    assert manifest.training["channels"] == [40, 112]


# OpenVINO joins the two constants of a scale to one before it runs: the last bit is another.
@pytest.mark.parametrize(("runtime", "tolerance"), [("onnxruntime", 0.0), ("openvino", 1e-6)])
def test_both_forms_score_alike(trained_model, whole, runtime, tolerance):
    with Detector.load(trained_model, runtime=runtime) as learnt, Detector.load(whole, runtime=runtime) as constant:
        for golden in learnt.graph.golden:
            image = learnt.artifact.image(golden.image)
            found, expected = learnt.measure(image), constant.measure(image)
            assert found.image_score == pytest.approx(expected.image_score, rel=tolerance, abs=0)
            np.testing.assert_allclose(
                found.anomaly_map, expected.anomaly_map, rtol=tolerance, atol=tolerance * expected.map_maximum
            )


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_other_arrays_are_another_scorer(model_copy, runtime):
    before = Artifact.load(model_copy)
    shutil.copytree(model_copy, versions_folder(model_copy) / "1")
    write_arrays(model_copy, before.manifest, {"mean": before.graph().arrays["mean"].read() + 1})
    write_manifest(model_copy, before.manifest)
    after = Artifact.load(model_copy)
    assert scored_alike(model_copy, after.manifest, "fp32") == [after.manifest.manifest_sha256]
    assert scorer_sha256(after.manifest, "fp32") != scorer_sha256(before.manifest, "fp32")
    golden = after.graph().golden[0]
    with Detector.load(model_copy, runtime=runtime) as detector:
        assert detector.measure(after.image(golden.image)).image_score != pytest.approx(golden.image_score, rel=0.01)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_they_are_read_once(model_copy, runtime):
    engine = open_runtime(Artifact.load(model_copy), runtime)
    for name in LEARNT:
        (model_copy / f"{name}.npy").unlink()
    image = np.random.default_rng(0).integers(0, 256, engine.input.shape, np.uint8)
    first = engine.run(image)["features"].copy()
    engine.run(255 - image)
    np.testing.assert_array_equal(engine.run(image)["features"], first)
    engine.close()
