"""The GPU's memory, stream and graphs by cuda-bindings.

test_cuda_build.py runs these on an emulated GPU as well.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import threading

import numpy as np
import pytest
from emulated_driver import emulated_driver
from gpu import needs_gpu

from edgead.errors import SettingsError
from edgead.runtime.device import CudaError, Device, call, find_gpu, open_device

BINDINGS = importlib.util.find_spec("cuda.bindings") is not None if importlib.util.find_spec("cuda") else False
needs_graphs = pytest.mark.skipif(not BINDINGS, reason="CUDA GRAPHS NOT TESTED: cuda-bindings are not installed")


@pytest.fixture
def device():
    device = open_device()
    yield device
    device.close()


@needs_gpu
def test_there_and_back(device):
    assert find_gpu() == device.gpu
    assert device.gpu.name and re.fullmatch("sm[0-9]{2,3}", device.gpu.target)
    assert str(device.gpu) == f"{device.gpu.name} ({device.gpu.target})"
    with device.current():
        source, target = device.pinned((3, 5), np.float32), device.pinned((3, 5), np.float32)
        assert source.shape == (3, 5) and source.dtype == np.float32 and not source.any()
        source[...] = np.arange(15).reshape(3, 5)
        address = device.allocate(source.nbytes)
        device.copy_in(address, source)
        device.copy_out(target, address)
        device.wait()
        np.testing.assert_array_equal(target, source)
        device.free(address)  # not once more by its end
        assert device.pinned((1, 2, 2, 3), np.uint8).dtype == np.uint8


@needs_gpu
def test_any_thread_may_use_it(device):
    with device.current():
        source, target = device.pinned((4,), np.float32), device.pinned((4,), np.float32)
        address = device.allocate(source.nbytes)
    source[...] = 7

    def work():
        with device.current(), device.current():
            device.copy_in(address, source)
            device.copy_out(target, address)
            device.wait()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(target, source)


@needs_gpu
@needs_graphs
def test_a_graph_repeats_what_was_captured(device):
    with device.current():
        source, target = device.pinned((4,), np.float32), device.pinned((4,), np.float32)
        address = device.allocate(source.nbytes)

        def enqueue():
            device.copy_in(address, source)
            device.copy_out(target, address)
            return True

        source[...] = 1
        graph = device.capture(enqueue)
        device.wait()
        assert not target.any()  # captured, not done
        for value in (2, 3):
            source[...] = value
            graph.launch()
            device.wait()
            assert (target == value).all()
        graph.close()


@needs_gpu
@needs_graphs
def test_what_cannot_be_captured_leaves_a_usable_stream(device):
    def waits():
        with pytest.raises(RuntimeError, match="cuStreamSynchronize failed with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"):
            call(importlib.import_module("cuda.bindings.driver").cuStreamSynchronize, device.stream)
        return True

    def fails():
        raise KeyError("x")

    def is_wrong():
        raise RuntimeError("not of the capture")

    with device.current():
        assert device.capture(waits) is None
        assert device.capture(lambda: False) is None
        with pytest.raises(KeyError):
            device.capture(fails)
        with pytest.raises(RuntimeError, match="not of the capture"):
            device.capture(is_wrong)
        array, address = device.pinned((2,), np.float32), device.allocate(8)
        array[...] = 5

        def copies_after_it():  # what comes after is refused as well
            waits()
            device.copy_out(array, address)
            return True

        assert device.capture(copies_after_it) is None
        device.copy_in(address, array)
        device.copy_out(array, address)
        device.wait()


@needs_gpu
@needs_graphs
def test_errors_have_names():
    device = Device()
    with device.current(), pytest.raises(CudaError, match="CUDA: cuMemAlloc failed with CUDA_ERROR_OUT_OF_MEMORY"):
        device.allocate(1 << 50)
    device.close()


@needs_gpu
def test_what_is_pinned_outlives_its_device(device):
    other = Device()
    with other.current():
        array = other.pinned((2, 3), np.float32)
    array[...] = 4
    row = array[1]
    del array
    other.close()
    assert (row == 4).all()
    thread = threading.Thread(target=[row].clear)  # the last one may go in any thread
    del row
    thread.start()
    thread.join()


@pytest.fixture
def emulator():
    """The emulated driver, which counts."""
    library = emulated_driver()
    yield library
    for name, usual in ((b"graphs", 0), (b"integrated", 0), (b"maps", 1)):
        library.emulator_set(name, usual)


@needs_gpu
def test_what_is_shared_is_seen_by_both(device):
    with device.current():
        here, there = device.share((2, 3), np.float32), device.share((2, 3), np.float32)
        assert here.array.shape == (2, 3) and here.array.dtype == np.float32 and not here.array.any()
        fetched = device.pinned((2, 3), np.float32)
        here.array[...] = np.arange(6).reshape(2, 3)
        here.copy_in()
        device.copy_out(fetched, here.address)
        device.copy_in(there.address, here.array)
        there.copy_out()
        device.wait()
        np.testing.assert_array_equal(fetched, here.array)
        np.testing.assert_array_equal(there.array, here.array)


@needs_gpu
@needs_graphs
@pytest.mark.parametrize("integrated", [0, 1])
def test_a_part_of_what_is_shared(emulator, integrated):
    emulator.emulator_set(b"integrated", integrated)
    device = Device()
    assert device.unified == bool(integrated)
    with device.current():
        shared, fetched = device.share((2, 3), np.float32), device.pinned((2, 3), np.float32)
        assert shared.address != shared.array.ctypes.data  # or who takes one for the other would not be noticed
        shared.copy_in()
        device.wait()
        shared.array[...] = np.arange(1, 7).reshape(2, 3)
        shared.copy_in(slice(2, 5))
        device.copy_out(fetched, shared.address)
        device.wait()
        assert fetched.ravel().tolist() == ([1, 2, 3, 4, 5, 6] if integrated else [0, 0, 3, 4, 5, 0])
        fetched[...] = 9
        device.copy_in(shared.address, fetched)
        shared.copy_out(slice(1, 3))
        assert shared.array.max() < 9  # nothing is done before the wait
        device.wait()
        assert shared.array.ravel().tolist() == ([9] * 6 if integrated else [1, 9, 9, 4, 5, 6])
    device.close()


@needs_gpu
@needs_graphs
def test_what_one_memory_holds_outlives_its_device(emulator):
    emulator.emulator_set(b"integrated", 1)
    before = emulator.emulator_live()
    device = Device()
    with device.current():
        array = device.share((3,), np.float32).array
    device.close()
    array[...] = 1
    assert emulator.emulator_live() == before + 3  # the array at two addresses, and the context that it is in
    del array
    assert emulator.emulator_live() == before


@needs_gpu
@needs_graphs
def test_without_addresses_for_it_memory_is_copied(emulator):
    emulator.emulator_set(b"integrated", 1)
    emulator.emulator_set(b"maps", 0)
    device = Device()
    assert not device.unified
    device.close()


@needs_gpu
@needs_graphs
def test_everything_is_released(emulator):
    before = emulator.emulator_live()
    device = Device()
    with device.current():
        pinned = device.pinned((3,), np.float32)
        device.allocate(5)
        device.free(device.allocate(7))
        device.capture(lambda: True).close()
        assert emulator.emulator_live() == before + 5  # context, stream, two of memory, and the context being current
    device.close()
    assert emulator.emulator_live() == before + 2  # the array, and the context that it is in
    del pinned
    assert emulator.emulator_live() == before


@needs_gpu
@needs_graphs
def test_what_makes_no_graph_is_released(device, emulator):
    emulator.emulator_set(b"graphs", 801)  # CUDA_ERROR_NOT_SUPPORTED
    before = emulator.emulator_live()
    with device.current():
        assert device.capture(lambda: True) is None
        with pytest.raises(KeyError):
            device.capture(lambda: {}["x"])
    assert emulator.emulator_live() == before


def test_without_a_library_it_is_reported_what_to_install(monkeypatch):
    def missing():
        raise ModuleNotFoundError("No module named 'cuda'", name="cuda")

    monkeypatch.setattr("edgead.runtime.device.Device", missing)
    with pytest.raises(SettingsError, match="the GPU cannot be reached: install cuda-bindings"):
        open_device()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CudaError("CUDA: cuInit failed with CUDA_ERROR_NO_DEVICE"), r"CudaError: .*NO_DEVICE\): see"),
        (ImportError("libcuda.so.1: cannot open shared object file"), r"ImportError: libcuda.*\): see"),
    ],
)
def test_without_a_gpu_the_reason_is_reported(monkeypatch, error, said):
    def fails():
        raise error

    monkeypatch.setattr("edgead.runtime.device.Device", fails)
    with pytest.raises(SettingsError, match=rf"no GPU can be used \(cuda-bindings: {said}"):
        open_device()
