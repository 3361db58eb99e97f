"""Frames on a GPU from the image to the map: runtime and scorer as they are, a network that ONNX Runtime computes.

test_cuda_build.py runs these on an emulated GPU; on a real one test_tensorrt.py takes their place.
"""

from __future__ import annotations

import ctypes
import gc
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from backends import needs_cuda
from emulated_driver import emulated_driver
from gpu import needs_gpu
from test_device import needs_graphs
from test_engine_runtime import StandIn, refuses_to_be_captured

from edgead import Detector
from edgead.artifact.folder import Artifact
from edgead.artifact.preprocess import preprocess
from edgead.cli import doctor
from edgead.images.files import load_image
from edgead.runtime import RUNTIMES, tensorrt
from edgead.runtime.device import Gpu
from edgead.runtime.frames_on_gpu import FramesOnGpu
from edgead.runtime.ort import OrtRuntime
from edgead.runtime.tensorrt import TensorRtRuntime

pytestmark = [needs_cuda, needs_gpu, needs_graphs]

ONE_GRAPH = "as one CUDA graph from the image to the map"


class OrtNetwork(StandIn):
    """An engine that ONNX Runtime computes, when the stream gets that far, on the memory of the emulated GPU."""

    def __init__(self, artifact, library, during_run=lambda stream: True):
        super().__init__(during_run)
        self._host, self._library, self._addresses = OrtRuntime(artifact, artifact.graph()), library, {}
        self._names = [artifact.manifest.input, *artifact.manifest.outputs]
        self._compute = ctypes.CFUNCTYPE(None)(self._computed)
        self.seen = np.empty_like(self._host.input)

    @property
    def num_io_tensors(self):
        return len(self._names)

    def get_tensor_name(self, i):
        return self._names[i]

    def get_tensor_dtype(self, name):
        return "uint8" if name == self._names[0] else "float"

    def get_tensor_shape(self, name):
        return self._host.outputs[name].shape

    def set_input_shape(self, name, shape):
        return shape == self._host.input.shape

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        if not self._during_run(stream):
            return False
        return self._library.emulator_call(ctypes.c_void_p(stream), self._compute) == 0

    def _computed(self):
        ctypes.memmove(self.seen.ctypes.data, self._addresses[self._names[0]], self.seen.nbytes)
        for name, output in self._host.run(self.seen).items():
            ctypes.memmove(self._addresses[name], output.ctypes.data, output.nbytes)


@pytest.fixture
def driver():
    return emulated_driver()


@pytest.fixture
def network(driver, trained_model, monkeypatch, tmp_path):
    """Makes a network the engine of the shared model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)

    def install(during_run=lambda stream: True):
        made = OrtNetwork(Artifact.load(trained_model), driver, during_run)
        wanted = SimpleNamespace(flavour=made.flavour, gpu=Gpu("Card", "sm86"), path=Path("m.engine"), read=lambda: b"")
        monkeypatch.setattr(tensorrt, "find_engine", lambda artifact, graph, gpu: wanted)
        return made

    return install


@pytest.fixture
def images(line_data):
    good = load_image(line_data / "test" / "good" / "000.jpg")
    bad = good.copy()
    bad[40:110, 300:400] = (0, 0, 255)
    return [good, bad, good]


def counts(driver):
    names = ("graphs launched", "waits", "copies in", "copies out", "allocations")
    return [driver.emulator_count(name.encode()) for name in names]


def check_verdicts(trained_model, images, each=lambda: None):
    """Compare with ONNX Runtime; returns how frames were launched."""
    with (
        Detector.load(trained_model, runtime="onnxruntime") as here,
        Detector.load(trained_model, runtime="tensorrt") as there,
    ):
        for image in images:
            expected = here.predict(image)
            each()
            found = there.predict(image)
            each()
            assert found.decision == expected.decision
            assert found.image_score == pytest.approx(expected.image_score, rel=1e-6)
            np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, rtol=1e-4)
            assert [box.peak for box in found.boxes] == pytest.approx([box.peak for box in expected.boxes], rel=1e-5)
        return there.launches


def test_a_frame_is_one_graph_one_wait_and_a_copy_each_way(trained_model, network, driver, images):
    network()
    found = []
    assert check_verdicts(trained_model, images, lambda: found.append(counts(driver))) == ONE_GRAPH
    assert found[3::2] == [[1, 1, 1, 1, 0]] * 2  # the first frame of a shape prepares for it


def test_what_cannot_be_captured_goes_piece_by_piece(trained_model, network, driver, images):
    network(refuses_in_captures)
    found = []
    launches = check_verdicts(trained_model, images, lambda: found.append(counts(driver)))
    assert launches == "piece by piece from the image to the map: it cannot be captured in a CUDA graph"
    assert found[3::2] == [[0, 1, 1, 1, 0]] * 2


def refuses_in_captures(stream):
    """Waits where it is captured, which is refused."""
    from cuda.bindings import driver

    captured = driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE
    return driver.cuStreamIsCapturing(stream)[1] == captured or refuses_to_be_captured(stream)


def test_frames_of_many_shapes(trained_model, network, driver, images):
    """The memory of the GPU is for some; what comes after goes another way, to the same verdicts."""
    network()
    shapes = [images[1][: -10 * i or None, 7 * i :] for i in range(5)]
    found = []
    check_verdicts(trained_model, [*shapes, *shapes], lambda: found.append(counts(driver)))
    assert found[11::2] == [[1, 1, 1, 1, 0]] * 5


def test_a_card_that_gives_other_pixels_gets_them_from_the_cpu(trained_model, network, images, monkeypatch, caplog):
    network()
    monkeypatch.setattr(FramesOnGpu, "differing", lambda self: 3)
    launches = check_verdicts(trained_model, images)
    assert launches == "as one CUDA graph from the input of the network to the map"
    assert "the CPU prepares frames of 480 x 480: the GPU gives 3 other numbers than OpenCV here" in caplog.text


def test_noise_finds_a_wrong_pixel(trained_model, network, images, monkeypatch):
    network()
    prepared = tensorrt.prepared

    def otherwise(image, size, sides, out=None):
        made = prepared(image, size, sides, out)
        made[5, 7, 1] ^= 1
        return made

    monkeypatch.setattr("edgead.runtime.frames_on_gpu.prepared", otherwise)
    assert "from the input of the network" in check_verdicts(trained_model, images)


def test_the_network_sees_what_the_cpu_would_give_it(trained_model, network):
    rng, artifact, made = np.random.default_rng(3), Artifact.load(trained_model), network()
    runtime = TensorRtRuntime(artifact, artifact.graph())
    spec = artifact.manifest.preprocessing
    image = rng.integers(0, 256, (300, 420, 3), np.uint8)
    ignored = {"frame_size": (300, 420), "polygons": (((20, 30), (160, 30), (60, 190)),)}
    specs = [
        spec,
        spec.model_copy(update={"fill": "reflect"}),
        spec.model_copy(update={"roi": (11, 13, 101, 250)}),
        type(spec)(**{**spec.model_dump(), "ignored": ignored}),
        spec.model_copy(update={"roi": (0, 0, 5, 3), "fill": "reflect"}),
    ]
    for of_frame in [*specs, *specs]:
        runtime.take(image, of_frame)
        runtime.run(runtime.input)
        np.testing.assert_array_equal(made.seen[0], preprocess(image, of_frame))
    runtime.take(image, specs[0])
    other = rng.integers(0, 256, runtime.input.shape, np.uint8)
    runtime.run(other)  # what was taken does not stay for a later run
    np.testing.assert_array_equal(made.seen, other)
    runtime.run(runtime.input)
    np.testing.assert_array_equal(made.seen, other)
    runtime.close()
    with pytest.raises(RuntimeError, match="was closed"):
        runtime.take(image, spec)


def test_everything_goes_with_the_detector(trained_model, network, driver, images):
    network()
    gc.collect()
    before = driver.emulator_live()
    check_verdicts(trained_model, images)
    gc.collect()
    assert driver.emulator_live() == before


def test_two_cameras_have_a_graph_each(trained_model, network, images):
    """By turns: what the emulator calls of Python in one thread would wait for another, which waits for it."""
    network()
    first = Detector.load(trained_model, runtime="tensorrt")
    network()  # one of its own
    second = Detector.load(trained_model, runtime="tensorrt")
    with first, second:
        good, bad, _ = images
        alone = [first.measure(image).image_score for image in (good, bad)]
        for _ in range(2):
            assert [first.measure(good).image_score, second.measure(bad).image_score] == alone


def test_doctor_says_what_is_in_the_graph(trained_model, network, monkeypatch, tmp_path):
    network()
    model = shutil.copytree(trained_model, tmp_path / "model")
    (model / "engines").mkdir()
    there = replace(RUNTIMES.named("tensorrt"), runs=lambda artifact, graph: True)
    monkeypatch.setitem(RUNTIMES._components, "tensorrt", there)
    assert doctor._model(model)["detail"] == f"fp32 on tensorrt, a frame {ONE_GRAPH}"
