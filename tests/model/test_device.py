"""The GPU's memory, stream and graphs by pycuda and by cuda-bindings.

test_cuda_build.py runs these on an emulated GPU as well.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from emulated_driver import emulated_driver
from gpu import needs_gpu

from edgead.errors import SettingsError
from edgead.runtime.device import CopiedMemory, CudaBindings, CudaError, PyCuda, call, find_gpu, open_device

BINDINGS = importlib.util.find_spec("cuda.bindings") is not None if importlib.util.find_spec("cuda") else False
EACH = [
    pytest.param(PyCuda, marks=pytest.mark.skipif(not importlib.util.find_spec("pycuda"), reason="pycuda NOT TESTED")),
    pytest.param(CudaBindings, marks=pytest.mark.skipif(not BINDINGS, reason="cuda-bindings NOT TESTED")),
]
needs_graphs = pytest.mark.skipif(not BINDINGS, reason="CUDA GRAPHS NOT TESTED: cuda-bindings are not installed")


@pytest.fixture(params=EACH)
def device(request):
    device = request.param()
    yield device
    device.close()


@pytest.fixture
def any_device():
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
def test_a_graph_repeats_what_was_captured(any_device):
    device = any_device
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
def test_what_cannot_be_captured_leaves_a_usable_stream(any_device):
    device = any_device

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
    device = CudaBindings()
    with device.current(), pytest.raises(CudaError, match="CUDA: cuMemAlloc failed with CUDA_ERROR_OUT_OF_MEMORY"):
        device.allocate(1 << 50)
    device.close()


@needs_gpu
def test_what_is_pinned_outlives_its_device(device):
    other = type(device)()
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
    device = CudaBindings()
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
    device = CudaBindings()
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
    device = CudaBindings()
    assert not device.unified
    device.close()


@needs_gpu
@needs_graphs
def test_everything_is_released(emulator):
    before = emulator.emulator_live()
    device = CudaBindings()
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
def test_what_makes_no_graph_is_released(any_device, emulator):
    emulator.emulator_set(b"graphs", 801)  # CUDA_ERROR_NOT_SUPPORTED
    before = emulator.emulator_live()
    with any_device.current():
        assert any_device.capture(lambda: True) is None
        with pytest.raises(KeyError):
            any_device.capture(lambda: {}["x"])
    assert emulator.emulator_live() == before


def test_pycuda_frees_what_is_pinned_where_its_context_is(monkeypatch):
    current, freed_in = [], []

    class Memory(np.ndarray):
        def __del__(self):
            if self.base is None:
                freed_in.append(list(current))

    context = SimpleNamespace(push=lambda: current.append("context"), pop=current.pop)
    driver = SimpleNamespace(
        Stream=lambda flags: SimpleNamespace(handle=1),
        pagelocked_zeros=lambda shape, dtype: Memory(shape, dtype),
        mem_alloc=lambda nbytes: 1000 + nbytes,
    )
    card = SimpleNamespace(name=lambda: "Card", compute_capability=lambda: (8, 7))
    monkeypatch.setattr("edgead.runtime.device._pycuda", lambda: (driver, card, context))
    device = PyCuda()
    array = device.pinned((2, 3), np.float32)
    device.close()
    array[...] = 1
    assert not freed_in
    del array
    assert freed_in == [["context"]] and not current
    assert device.capture(lambda: True) is None
    shared = device.share((2, 3), np.float32)  # of memories of their own, whatever the card is
    assert (type(shared), shared.address, shared.array.shape) == (CopiedMemory, 1024, (2, 3)) and not device.unified


def test_what_pycuda_refuses_is_an_error_of_cuda(monkeypatch):
    class OutOfMemoryError(Exception):
        pass

    def refuse(*asked):
        raise OutOfMemoryError("cuMemAlloc failed: out of memory")

    context = SimpleNamespace(push=list, pop=list)
    driver = SimpleNamespace(
        Stream=lambda flags: SimpleNamespace(handle=1),
        pagelocked_zeros=refuse,
        mem_alloc=refuse,
        Error=OutOfMemoryError,
    )
    card = SimpleNamespace(name=lambda: "Card", compute_capability=lambda: (8, 7))
    monkeypatch.setattr("edgead.runtime.device._pycuda", lambda: (driver, card, context))
    device = PyCuda()
    for ask in (lambda: device.allocate(1), lambda: device.pinned((2,), np.float32)):
        with pytest.raises(CudaError, match="pycuda: cuMemAlloc failed"):
            ask()


def test_what_need_not_be_compiled_comes_first(monkeypatch):
    monkeypatch.setattr("edgead.runtime.device.PyCuda", lambda: "pycuda")
    monkeypatch.setattr("edgead.runtime.device.CudaBindings", lambda: "cuda-bindings")
    assert open_device() == "cuda-bindings"


def test_without_a_library_it_is_reported_what_to_install(monkeypatch):
    def missing():
        raise ModuleNotFoundError("No module named 'pycuda'", name="pycuda")

    monkeypatch.setattr("edgead.runtime.device.PyCuda", missing)
    monkeypatch.setattr("edgead.runtime.device.CudaBindings", missing)
    with pytest.raises(SettingsError, match="the GPU cannot be reached: install cuda-bindings .*, or pycuda"):
        open_device()


def test_without_a_gpu_the_reason_is_reported(monkeypatch):
    def fails():
        raise CudaError("CUDA: cuInit failed with CUDA_ERROR_NO_DEVICE")

    def is_broken():  # pycuda that was built for another CUDA
        raise ImportError("libcurand.so.10: cannot open shared object file")

    monkeypatch.setattr("edgead.runtime.device.CudaBindings", fails)
    monkeypatch.setattr("edgead.runtime.device.PyCuda", is_broken)
    with pytest.raises(
        SettingsError,
        match=r"no GPU can be used \(cuda-bindings: CudaError: .*NO_DEVICE; pycuda: ImportError: libcurand.*\): see",
    ):
        open_device()


@pytest.mark.parametrize("error", [ImportError("broken"), RuntimeError("broken")])
def test_a_library_that_is_broken_is_passed_over(monkeypatch, error):
    def is_broken():
        raise error

    monkeypatch.setattr("edgead.runtime.device.CudaBindings", is_broken)
    monkeypatch.setattr("edgead.runtime.device.PyCuda", lambda: "pycuda")
    assert open_device() == "pycuda"
