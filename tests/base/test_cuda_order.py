"""The CUDA backend where order counts: streams, blocks, captures, memory that goes away, and cards it does not run on.

test_cuda_build.py runs these on an emulated GPU, which does at once only what somebody waits for.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from contextlib import suppress

import numpy as np
import pytest
from backends import needs_cuda
from emulated_driver import emulated_driver
from gpu import needs_gpu
from test_cuda import code, from_device, on_device

from edgead import kernels
from edgead.cli import doctor
from edgead.errors import SettingsError
from edgead.kernels import backend, cuda
from edgead.runtime.device import open_device

pytestmark = [needs_cuda, needs_gpu]


@pytest.fixture
def rng():
    return np.random.default_rng(23)


@pytest.fixture
def devices():
    """Two streams of one GPU."""
    both = open_device(), open_device()
    yield both
    for device in both:
        device.close()


@pytest.fixture
def emulator():
    """The emulated driver: set("capability", 75) makes it another card."""
    library = emulated_driver()
    library.set = lambda name, value: library.emulator_set(name.encode(), value)
    yield library
    usual = {"capability": 86, "modules": 0, "copies": -1, "graphs": 0, "kernels": 0, "allocations": -1}
    for name, value in usual.items():
        library.set(name, value)


class Search:
    """One search that was put into a stream and that nobody has waited for."""

    def __init__(self, index, features, stream, k=1):
        rows, self._k = len(features), k
        self._count, self.source = rows, on_device(features)
        self.distance, self.rows = code.DeviceMemory(4 * rows * k), code.DeviceMemory(4 * rows * k)
        self.put = lambda: index.search(
            self.source.pointer, rows, k, cuda.Neighbours(self.distance.pointer, self.rows.pointer), stream
        )

    def check(self, bank, features):
        expected = kernels.NearestPatches(bank, backend="numpy").search(features, self._k)
        shape = self._count, self._k
        np.testing.assert_array_equal(from_device(self.rows, shape, np.int32), expected[1])
        np.testing.assert_allclose(from_device(self.distance, shape, np.float32), expected[0], rtol=2e-7)


def wait(*devices):
    for device in devices:
        with device.current():
            device.wait()


@pytest.mark.parametrize("later", [150, 600])  # fits into the work memory, or makes it grow
def test_two_streams_take_turns(rng, devices, later):
    bank = rng.standard_normal((300, 24), dtype=np.float32)
    index = cuda.NearestPatches(bank)
    features = [rng.standard_normal((count, 24), dtype=np.float32) for count in (150, later)]
    searches = [Search(index, f, device.stream) for f, device in zip(features, devices, strict=True)]
    for search in searches:
        search.put()
    wait(*devices)
    for search, of_stream in zip(searches, features, strict=True):
        search.check(bank, of_stream)


def test_two_maps_take_turns(rng, devices):
    smoother = cuda.Smoother((9, 9), (40, 40), 1.5)
    scores = [rng.random((9, 9), np.float32) for _ in devices]
    sources = [on_device(of_stream) for of_stream in scores]
    maps, maxima = ([code.DeviceMemory(size) for _ in devices] for size in (4 * 1600, 4))
    for source, target, maximum, device in zip(sources, maps, maxima, devices, strict=True):
        smoother(source.pointer, target.pointer, maximum.pointer, device.stream)
    wait(*devices)
    for of_stream, target, maximum in zip(scores, maps, maxima, strict=True):
        expected, largest = kernels.smooth(of_stream, (40, 40), 1.5, backend="numpy")
        np.testing.assert_allclose(from_device(target, (40, 40), np.float32), expected, atol=2e-6)
        np.testing.assert_allclose(from_device(maximum, 1, np.float32), largest, atol=2e-6)


def test_what_goes_away_waits_for_its_own_work(rng, devices):
    bank, features = rng.standard_normal((2, 200, 24), dtype=np.float32)
    index, smoother = cuda.NearestPatches(bank), cuda.Smoother((9, 9), (40, 40), 1.5)
    search = Search(index, features, devices[0].stream)
    scores = rng.random((9, 9), np.float32)
    source, target, maximum = on_device(scores), code.DeviceMemory(4 * 1600), code.DeviceMemory(4)
    search.put()
    smoother(source.pointer, target.pointer, maximum.pointer, devices[1].stream)
    del index, smoother, search.put
    wait(*devices)
    search.check(bank, features)
    expected, _ = kernels.smooth(scores, (40, 40), 1.5, backend="numpy")
    np.testing.assert_allclose(from_device(target, (40, 40), np.float32), expected, atol=2e-6)


def test_an_index_that_goes_away_spoils_no_capture(rng, devices):
    device = devices[0]
    bank, features = rng.standard_normal((2, 200, 24), dtype=np.float32)
    held = [cuda.NearestPatches(bank), cuda.Smoother((9, 9), (40, 40), 1.5)]
    with device.current():
        source, target = device.pinned((8,), np.float32), device.pinned((8,), np.float32)
        address = device.allocate(source.nbytes)

        def enqueue():
            device.copy_in(address, source)
            reload = threading.Thread(target=held.clear)
            reload.start()
            reload.join()
            device.copy_out(target, address)
            return True

        graph = device.capture(enqueue)
        assert graph is not None and not held
        source[...] = 3
        graph.launch()
        device.wait()
        assert (target == 3).all()
        graph.close()


def test_a_search_and_its_map_are_captured(rng, devices):
    device = devices[0]
    with suppress(AttributeError, OSError):  # only the emulated driver forgets the kernels that it has loaded
        ctypes.CDLL("libcuda.so.1").emulator_set(b"graphs", 0)
    bank, features = rng.standard_normal((2, 81, 24), dtype=np.float32)
    # New objects: nothing but reserve() has been called.
    index, smoother = cuda.NearestPatches(bank), cuda.Smoother((9, 9), (40, 40), 1.5)
    search = Search(index, features, device.stream)
    target, maximum = code.DeviceMemory(4 * 1600), code.DeviceMemory(4)

    def enqueue():
        search.put()
        smoother(search.distance.pointer, target.pointer, maximum.pointer, device.stream)
        return True

    with device.current():
        index.reserve(81)
        graph = device.capture(enqueue)
        for _ in range(2):
            features = rng.standard_normal((81, 24), dtype=np.float32)
            search.source.copy_from_host(features)
            graph.launch()
            device.wait()
            search.check(bank, features)
        graph.close()
    distance = from_device(search.distance, (9, 9), np.float32)
    expected, _ = kernels.smooth(distance, (40, 40), 1.5, backend="numpy")
    np.testing.assert_allclose(from_device(target, (40, 40), np.float32), expected, atol=2e-6)


def test_what_was_not_reserved_cannot_be_captured(rng, devices):
    device = devices[0]
    bank, features = rng.standard_normal((2, 50, 24), dtype=np.float32)
    search = Search(cuda.NearestPatches(bank), features, device.stream)

    def enqueue():
        with pytest.raises(RuntimeError, match="cudaErrorStreamCaptureUnsupported.* call reserve.. before"):
            search.put()
        return True

    with device.current():
        assert device.capture(enqueue) is None
    search.put()
    wait(device)
    search.check(bank, features)


def test_the_largest_value_may_be_in_any_block():
    """Blocks share one maximum; each is in a block of its own, and of as many as there are."""
    shape = (64, 64)
    for place in range(0, 4096, 500):
        scores = np.zeros(shape, np.float32)
        scores.flat[place] = -1
        scores.flat[4095 - place] = 5
        found, maximum = kernels.Smoother(shape, shape, 0.5, backend="cuda")(scores)
        assert maximum == found.max() > 1


def test_results_of_host_memory_are_there(rng):
    bank, features = rng.standard_normal((2, 100, 24), dtype=np.float32)
    expected = kernels.NearestPatches(bank, backend="numpy").search(features, 2)
    index = kernels.NearestPatches(bank, backend="cuda")
    for found, wanted in zip(index.search(features, 2), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-7)


def calls_on_host_memory(rng):
    bank, sizes = rng.standard_normal((code.group_rows(), 24), dtype=np.float32), [code.group_rows()]
    index, grouped = code.NearestIndex(bank), code.GroupedIndex(bank, sizes)
    smoother, scores = kernels.Smoother((9, 9), (40, 40), 1.5, backend="cuda"), np.ones((9, 9), np.float32)
    return [lambda: index.search(bank, 1), lambda: grouped.search(bank), lambda: smoother(scores)]


@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_copy_that_fails_leaves_no_other_in_the_stream(rng, emulator, good):
    for call in calls_on_host_memory(rng)[: 3 if good < 2 else 1]:  # only a search copies three things
        emulator.set("copies", good)
        with pytest.raises(RuntimeError, match="copying from the device failed"):
            call()
        assert emulator.emulator_pending() == 0


def test_too_little_memory_at_any_place_leaves_nothing_behind(rng, emulator):
    bank = rng.standard_normal((300, 40), dtype=np.float32)
    emulator.emulator_count(b"allocations")
    code.NearestIndex(bank)
    for left in range(emulator.emulator_count(b"allocations")):
        live = emulator.emulator_live()
        emulator.set("allocations", left)
        with pytest.raises(RuntimeError, match="too little free memory"):
            code.NearestIndex(bank)
        assert emulator.emulator_live() == live and emulator.emulator_pending() == 0
    emulator.set("allocations", -1)
    assert code.NearestIndex(bank).search(bank[:3], 1)[1][:, 0].tolist() == [0, 1, 2]


def test_a_kernel_that_fails_later_is_reported_by_the_call(rng, emulator):
    for call in calls_on_host_memory(rng):
        call()
        emulator.set("kernels", 700)
        with pytest.raises(RuntimeError, match="waiting for the device failed with cudaErrorIllegalAddress"):
            call()
        emulator.set("kernels", 0)
        call()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("capability", 75, r"emulator \(compute capability 7\.5\), .*NoKernelImage.* needs compute capability 8\.0"),
        ("modules", 209, r"emulator \(compute capability 8\.6\), .*NoKernelImage.* \(CUDAARCHS=native\)"),
        ("modules", 222, r"UnsupportedPtxVersion.* the driver is older than this module's CUDA .*: update the driver"),
    ],
)
def test_a_card_that_the_kernels_do_not_run_on_is_found_before(emulator, name, value, problem):
    emulator.set(name, value)
    assert "cuda" not in kernels.backends()
    with pytest.raises(SettingsError, match=f"backend 'cuda' does not run on .*{problem}.* use backend='cpu'"):
        backend.load_cuda()
    assert not doctor._tried(doctor._cuda)["ok"]


def test_a_device_wide_wait_spoils_a_capture(devices, emulator):
    """What the emulated driver must answer, as the two tests of captures above rest on it."""
    device, driver = devices[0], importlib.import_module("cuda.bindings.driver")
    with device.current():
        assert device.capture(lambda: driver.cuCtxSynchronize()[0].value == 900) is None
