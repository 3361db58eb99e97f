"""A frame of TensorRT on a GPU, with a stand-in for TensorRT's own code: captures, memory, refusals, threads.

test_cuda_build.py runs these on an emulated GPU as well.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gpu import needs_gpu
from test_device import needs_graphs

from edgead.cli import doctor
from edgead.runtime import tensorrt
from edgead.runtime.device import CudaBindings, Gpu, call, find_gpu
from edgead.runtime.engine_builder import EngineError
from edgead.runtime.flavour import Flavour
from edgead.runtime.tensorrt import TensorRtRuntime

pytestmark = [needs_gpu, needs_graphs]

SHAPE, FEATURES = (1, 4, 6, 3), (1, 2, 3, 5)


class StandIn:
    """TensorRT's API around a network that answers with one constant, and what it does beside that."""

    DataType = SimpleNamespace(UINT8="uint8", FLOAT="float")
    Dims = tuple

    class ILogger:
        ERROR = 1

    def __init__(self, during_run=lambda stream: True, during_read=lambda: None, takes_memory=True):
        from cuda.bindings import driver

        self.runs, self._driver, self._during_run, self._during_read = 0, driver, during_run, during_read
        self._takes_memory = takes_memory
        self.constant = np.arange(30, dtype=np.float32).reshape(FEATURES)
        self.flavour = Flavour("tensorrt", "10.3.0", self)

    def Runtime(self, logger):
        return self

    def deserialize_cuda_engine(self, content):
        self._during_read()
        return self

    def create_execution_context(self):
        return self

    pinned = None
    num_io_tensors = 2
    num_optimization_profiles = 1

    def get_tensor_profile_shape(self, name, profile):
        return [SHAPE] * 3

    def get_tensor_name(self, i):
        return ("image", "features")[i]

    def get_tensor_dtype(self, name):
        return {"image": "uint8", "features": "float"}[name]

    def get_tensor_shape(self, name):
        return {"image": SHAPE, "features": FEATURES}[name]

    def set_input_shape(self, name, shape):
        return shape == SHAPE

    def set_tensor_address(self, name, address):
        self._address = address
        return self._takes_memory

    def execute_async_v3(self, stream):
        self.runs += 1
        if not self._during_run(stream):
            return False
        source = self.pinned.ctypes.data
        call(self._driver.cuMemcpyHtoDAsync, self._address, source, self.constant.nbytes, stream)
        return True


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Opens a runtime on a stand-in."""
    spec = SimpleNamespace(image_size=SHAPE[1:3], channels=3, dtype=np.uint8, keeps_depth=False)
    manifest = SimpleNamespace(preprocessing=spec, input="image", outputs=["features"], output="features")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    runtimes, allocate = [], tensorrt._Network._allocate

    def allocate_with_constant(self, types):
        api = self._flavour.api
        if api.pinned is None:
            api.pinned = self._device.pinned(api.constant.shape, np.float32)
            api.pinned[...] = api.constant
        allocate(self, types)

    def open_on(stand_in):
        wanted = SimpleNamespace(
            flavour=stand_in.flavour, gpu=Gpu("Card", "sm86"), path=Path("m.engine"), read=lambda: b""
        )
        runtimes.append(TensorRtRuntime(SimpleNamespace(manifest=manifest, wanted=wanted), None))
        return runtimes[-1]

    monkeypatch.setattr(tensorrt._Network, "_allocate", allocate_with_constant)
    monkeypatch.setattr(tensorrt, "find_engine", lambda artifact, graph, gpu: artifact.wanted)
    yield open_on
    for runtime in runtimes:
        runtime.close()


class StandInForSeveral(StandIn):
    """With a second profile, of three images, each of which gets the constant of its place."""

    num_optimization_profiles = 2

    def __init__(self):
        super().__init__()
        self.constant = np.arange(90, dtype=np.float32).reshape(3, *FEATURES[1:])
        self.contexts = []

    def get_tensor_profile_shape(self, name, profile):
        return [((1, 3)[profile], *SHAPE[1:])] * 3

    def create_execution_context(self):
        self.contexts.append(ContextForSeveral(self))
        return self.contexts[-1]


class ContextForSeveral:
    def __init__(self, engine):
        self._engine, self._profile = engine, 0

    def set_optimization_profile_async(self, profile, stream):
        self._profile = profile
        return True

    def set_input_shape(self, name, shape):
        return shape == self._engine.get_tensor_profile_shape(name, self._profile)[0]

    def get_tensor_shape(self, name):
        return ((1, 3)[self._profile], *FEATURES[1:])

    def set_tensor_address(self, name, address):
        self._address = address
        return True

    def execute_async_v3(self, stream):
        nbytes = (1, 3)[self._profile] * self._engine.constant[0].nbytes
        source = self._engine.pinned.ctypes.data
        call(self._engine._driver.cuMemcpyHtoDAsync, self._address, source, nbytes, stream)
        return True


class RtxStandIn(StandIn):
    """tensorrt_rtx, which compiles what it runs and makes graphs itself."""

    ComputeCapability = SimpleNamespace(__members__={"SM86": 0})
    CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")

    def __init__(self, compiled=b"kernels", capturable=True):
        super().__init__()
        self.flavour = Flavour("tensorrt_rtx", "1.7.1", self)
        self.given, self.compiled, self.capturable = None, compiled, capturable

    def create_runtime_config(self):
        return SimpleNamespace(create_runtime_cache=lambda: self, set_runtime_cache=lambda cache: True)

    def deserialize(self, content):
        self.given = content
        return content == self.compiled

    def serialize(self):
        return self.compiled

    def create_execution_context(self, config):
        assert config.cuda_graph_strategy == "whole"
        return self

    def is_stream_capturable(self, stream):
        return self.capturable


def refuses_to_be_captured(stream):
    from cuda.bindings import driver

    return driver.cuStreamSynchronize(stream)[0].value == 0


def test_a_frame_is_one_graph(opened, caplog):
    stand_in = StandIn()
    with caplog.at_level("INFO"):
        runtime = opened(stand_in)
    launched = "as one CUDA graph from the input of the network to its outputs"
    assert f"a frame is launched {launched}" in caplog.text and runtime.launches == launched
    for _ in range(2):
        np.testing.assert_array_equal(runtime.run(np.zeros(SHAPE, np.uint8))["features"], stand_in.constant)
    assert stand_in.runs == 2  # before the capture and in it


def test_what_rtx_has_compiled_is_there_at_the_next_start(opened, tmp_path, caplog):
    first, second = RtxStandIn(), RtxStandIn()
    runtime = opened(first)
    assert first.given is None and runtime._one._plain.graph is None
    assert runtime.launches.startswith("piece by piece") and runtime.launches.endswith("the network as one CUDA graph")
    (kept,) = (tmp_path / "edgead" / "tensorrt").iterdir()
    assert kept.name == "runtime.tensorrt_rtx-1.7.1.Card-sm86"
    opened(second)
    assert second.given == b"kernels"
    another_driver = RtxStandIn(b"other kernels", capturable=False)
    assert "cannot be captured" in opened(another_driver).launches
    assert "is of another driver or system: it is not used, and written again" in caplog.text
    assert kept.read_bytes().endswith(b"other kernels")


def test_doctor_tries_a_graph(monkeypatch):
    stand_in = StandIn().flavour
    monkeypatch.setattr(stand_in.api, "Builder", lambda logger: object(), raising=False)
    monkeypatch.setattr(doctor, "installed_flavours", lambda: [stand_in])
    found = doctor._tried(doctor._tensorrt)
    assert found["ok"] and found["detail"].endswith(f"runs them on {find_gpu()}, a frame as one CUDA graph")
    monkeypatch.setattr(CudaBindings, "capture", lambda self, enqueue: None)
    assert "without CUDA graphs, a kernel at a time" in doctor._tried(doctor._tensorrt)["detail"]


@pytest.fixture(params=[0, 1])
def card(request):
    """The emulated driver of a card with memory of its own, and of one without; a real card is as it is, None here."""
    driver = ctypes.CDLL("libcuda.so.1")
    if not hasattr(driver, "emulator_set"):
        yield None
        return
    driver.emulator_set(b"integrated", request.param)
    yield driver
    driver.emulator_set(b"integrated", 0)


def test_several_images_have_a_graph_of_their_own(opened, card):
    stand_in, image = StandInForSeveral(), np.zeros(SHAPE[1:], np.uint8)
    runtime = opened(stand_in)
    assert runtime.several.count == 3 and runtime._one.count == 1
    assert runtime.launches.endswith("to its outputs; 3 images at once where they come together")
    for _ in range(2):
        runtime.several.input[...] = image
        if card:
            counts(card)
        lanes = runtime.several.run()
        for lane, expected in zip(lanes, stand_in.constant, strict=True):
            np.testing.assert_array_equal(lane["features"], expected[None])
        if card:  # the network itself copies its answer there
            copied = 0 if runtime._device.unified else 1
            assert counts(card) == [1, 1, 1 + copied, copied, 0]
        np.testing.assert_array_equal(runtime.run(image[None])["features"], stand_in.constant[:1])


def counts(driver):
    names = ("graphs launched", "waits", "copies in", "copies out", "allocations")
    return [driver.emulator_count(name.encode()) for name in names]


def test_a_network_that_cannot_be_captured_runs_piece_by_piece(opened, caplog):
    stand_in = StandIn(refuses_to_be_captured)
    with caplog.at_level("INFO"):
        runtime = opened(stand_in)
    assert runtime._one._plain.graph is None and "cannot be captured" in caplog.text
    before = stand_in.runs
    for _ in range(2):
        np.testing.assert_array_equal(runtime.run(np.zeros(SHAPE, np.uint8))["features"], stand_in.constant)
    assert stand_in.runs == before + 2


def test_a_network_that_does_not_run_is_refused(opened):
    with pytest.raises(EngineError, match=r"tensorrt 10\.3\.0 cannot run its engine on .*: TensorRT gave no reason"):
        opened(StandIn(lambda stream: False))
    with pytest.raises(EngineError, match="TensorRT takes no memory for 'image': TensorRT gave no reason"):
        opened(StandIn(takes_memory=False))


def test_results_outlive_the_runtime(opened):
    stand_in = StandIn()
    runtime = opened(stand_in)
    features = runtime.run(np.zeros(SHAPE, np.uint8))["features"]
    row = features[0, 1]
    runtime.close()
    del features
    np.testing.assert_array_equal(row, stand_in.constant[0, 1])


def test_everything_goes_with_the_last_result(opened):
    try:
        live = ctypes.CDLL("libcuda.so.1").emulator_live
    except AttributeError:
        pytest.skip("only the emulated driver counts")
    gc.collect()
    before, stand_in = live(), StandIn()
    runtime = opened(stand_in)
    features = runtime.run(np.zeros(SHAPE, np.uint8))["features"]
    runtime.close()
    del stand_in.pinned
    assert live() == before + 2  # what is pinned, and the context that it is in
    del features
    assert live() == before


def test_what_another_runtime_does_while_it_opens_spoils_no_capture(opened):
    from cuda.bindings import driver

    reading, threads = threading.Event(), []

    def read():
        reading.set()
        driver.cuCtxSynchronize()

    def run(stream):
        if stand_in.runs == 2:  # captured
            threads.append(threading.Thread(target=lambda: opened(StandIn(during_read=read))))
            threads[0].start()
            assert not reading.wait(0.3)
        return True

    stand_in = StandIn(run)
    runtime = opened(stand_in)
    threads[0].join()
    assert reading.is_set() and runtime._one._plain.graph and stand_in.runs == 2


def test_a_capture_that_others_spoil_is_made_again(opened):
    from cuda.bindings import driver

    def run(stream):
        if stand_in.runs == 2:
            driver.cuCtxSynchronize()
        return True

    stand_in = StandIn(run)
    assert opened(stand_in)._one._plain.graph and stand_in.runs == 3
