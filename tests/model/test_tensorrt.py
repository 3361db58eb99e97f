"""TensorRT on a GPU against ONNX Runtime. Without one, all of this is skipped: nothing here has a stand-in."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from backends import needs_cuda
from gpu import GPU_PROBLEM, needs_gpu

from edgead import Detector
from edgead.artifact.folder import Artifact
from edgead.cli import doctor
from edgead.dataset.folders import find_test_images
from edgead.heads.gpu import GpuScorer
from edgead.images.files import load_image
from edgead.runtime import choose_runtime, open_runtime
from edgead.runtime.device import DeviceArray, find_gpu
from edgead.runtime.engine import NoEngineError, make_engine
from edgead.runtime.engine_builder import EngineError
from edgead.runtime.flavour import find_flavour, installed_flavours
from edgead.runtime.ort import OrtRuntime
from edgead.runtime.tensorrt import TensorRtRuntime

# A GPU is no TensorRT: EDGEAD_REQUIRE=cuda,tensorrt fails where one of the two is missing.
REQUIRED = "tensorrt" in os.environ.get("EDGEAD_REQUIRE", "").split(",")
pytestmark = [
    needs_gpu,
    pytest.mark.skipif(not installed_flavours() and not REQUIRED, reason="TENSORRT NOT TESTED: it is not installed"),
]


@pytest.fixture(scope="module")
def artifact(trained_model, tmp_path_factory) -> Artifact:
    """The shared model with an engine for the GPU that is here."""
    artifact = Artifact.load(shutil.copytree(trained_model, tmp_path_factory.mktemp("tensorrt") / "model"))
    with pytest.raises(NoEngineError, match="edgead engine"):
        open_runtime(artifact, "tensorrt")
    flavour, gpu = find_flavour(), find_gpu()
    try:
        make_engine(artifact)
    except EngineError as error:
        if gpu.target in (flavour.targets or [gpu.target]):
            raise
        pytest.skip(f"TENSORRT NOT TESTED: {flavour} does not support {gpu}: {error}")
    return artifact


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.integers(0, 256, (1, 160, 160, 3), np.uint8) for _ in range(3)]


def test_it_gives_what_onnx_runtime_gives(artifact, images):
    graph = artifact.graph()
    here, there = OrtRuntime(artifact, graph), TensorRtRuntime(artifact, graph)
    for image in [*images, images[0]]:  # a graph is launched again and again, on what the buffers then hold
        expected = here.run(image)["features"].copy()
        found = there.run(image)["features"]
        assert found.shape == expected.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    there.input[...] = images[1]
    np.testing.assert_array_equal(there.run(there.input)["features"], there.run(images[1])["features"])
    here.close()
    there.close()


def test_auto_takes_the_engine_and_it_can_be_opened_again(artifact):
    for _ in range(2):
        runtime = open_runtime(artifact)
        assert isinstance(runtime, TensorRtRuntime)
        runtime.close()
    runtime.close()
    with pytest.raises(RuntimeError, match="was closed"):
        runtime.run(runtime.input)


def test_verdicts_are_those_of_onnx_runtime(artifact, line_data):
    paths = [image.path for image in find_test_images(line_data)]
    with Detector(artifact, runtime="onnxruntime") as here, Detector(artifact, runtime="tensorrt") as there:
        for path in paths:
            expected, found = here.predict(load_image(path)), there.predict(load_image(path))
            assert found.image_score == pytest.approx(expected.image_score, rel=1e-4)
            np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=1e-3 * expected.anomaly_map.max())


@needs_cuda
def test_a_frame_stays_on_the_gpu_from_the_image_to_the_map(artifact, images):
    with Detector(artifact, runtime="tensorrt") as detector:
        assert isinstance(detector._scorer, GpuScorer)
        detector.measure(images[0][0])
        assert "from the image to the map" in detector.launches
    runtime = choose_runtime(artifact, "tensorrt").open(on_device=True)
    assert isinstance(runtime.run(images[0])["features"], DeviceArray)
    runtime.close()


def test_images_at_once_get_what_they_get_alone(artifact, tmp_path, line_data):
    """Maps too; the kernels for a batch may round otherwise, all else is the same arithmetic."""
    several = Artifact.load(shutil.copytree(artifact.path, tmp_path / "model"))
    make_engine(several, batch=3)
    images = [load_image(image.path) for image in find_test_images(line_data)][:6]
    with Detector(several, runtime="tensorrt") as detector:
        assert detector.at_once == 3 and "3 images at once" in detector.launches
        alone = [detector.predict(image) for image in images]
        for found, expected in zip(detector.predict(images), alone, strict=True):
            assert found.decision == expected.decision
            assert found.image_score == pytest.approx(expected.image_score, rel=1e-4)
            np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=1e-3 * expected.anomaly_map.max())


def test_a_spoilt_engine_is_refused_even_by_auto(artifact, tmp_path):
    copy = Artifact.load(shutil.copytree(artifact.path, tmp_path / "model"))
    (engine,) = (copy.path / "engines").glob("*.engine")
    engine.write_bytes(engine.read_bytes()[:-1])
    with pytest.raises(EngineError, match="edited or cut off.*edgead engine"):
        open_runtime(copy)


def test_doctor_names_the_gpu():
    assert not GPU_PROBLEM
    assert "runs them on" in doctor._tried(doctor._tensorrt)["detail"]
