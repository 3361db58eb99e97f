"""What a graph takes beside the image: a model whose graph holds it as constants judges alike, on every runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="graphs are made by the workstation's packages")

from edgead.artifact.folder import Artifact, write_arrays, write_manifest
from edgead.artifact.identity import scorer_sha256
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
    from safetensors import safe_open

    manifest = Artifact.load(trained_model).manifest
    assert list(manifest.graphs["fp32"].arrays) == LEARNT
    assert {f"{name}.npy" for name in LEARNT} <= manifest.files.keys()
    assert manifest.training["channels"] == [40, 112]
    with safe_open(trained_model / "weights.safetensors", "numpy") as weights:
        assert not set(LEARNT) & set(weights.keys())  # one truth


@pytest.mark.parametrize(
    ("settings", "learnt"),
    [({}, LEARNT), ({"damp_length": False, "whiten": False}, LEARNT[:2])],
)
@pytest.mark.slow
def test_the_graph_gives_what_torch_gives(tmp_path, settings, learnt):
    import onnxruntime
    import torch
    from edgead.export.graph import export_onnx

    from edgead.artifact.manifest import GraphRecord, Manifest
    from edgead.workstation.methods.patchcore.detector import PatchCore

    size = {"backbone": "efficientnet_lite0", "image_size": (64, 64)}
    model = PatchCore.from_settings({**size, **settings}, pretrained=False)
    rng = np.random.default_rng(0)
    for name in learnt:
        buffer = model.network.get_buffer(name)
        buffer.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, buffer.shape)))
    graphs = {"fp32": GraphRecord(arrays=tuple(model.graph_arrays))}
    manifest = Manifest.draft(model.name, model.preprocessing, model.head, graphs=graphs)
    export_onnx(model.network, tmp_path / "model.onnx", manifest)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [one.name for one in session.get_inputs()] == ["image", *learnt]
    image = rng.integers(0, 256, (1, 64, 64, 3), np.uint8)
    found = session.run(["features"], {"image": image, **model.graph_arrays})[0]
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


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
    write_arrays(model_copy, before.manifest, {"mean": before.graph().arrays["mean"].read() + 1})
    write_manifest(model_copy, before.manifest)
    after = Artifact.load(model_copy)
    assert scorer_sha256(after.manifest, after.graph()) != scorer_sha256(before.manifest, before.graph())
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
