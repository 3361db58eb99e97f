"""One GPU as the runtime needs it, by NVIDIA's cuda-bindings or by pycuda: pinned memory, memory, a stream.

Addresses and streams are integers.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgead.errors import SettingsError

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream, which others may use


@dataclass(frozen=True, slots=True)
class Gpu:
    """Name, such as "NVIDIA RTX A2000", and compute capability, such as "sm86"."""

    name: str
    target: str

    def __str__(self) -> str:
        return f"{self.name} ({self.target})"


class Device(Protocol):
    """Memory and one stream of the first GPU. Everything else is called inside `with device.current():`."""

    gpu: Gpu
    stream: int

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU's context the calling thread's while a block runs."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """Allocate an array of the host that the GPU copies without the CPU's help."""
        ...

    def allocate(self, nbytes: int) -> int:
        """Allocate memory on the GPU; it lasts until `close`."""
        ...

    def copy_in(self, address: int, source: np.ndarray) -> None:
        """Copy a pinned array to the GPU, in the stream."""
        ...

    def copy_out(self, target: np.ndarray, address: int) -> None:
        """Copy from the GPU into a pinned array, in the stream."""
        ...

    def wait(self) -> None:
        """Wait until everything in the stream is done."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """float32 on a GPU, C order, overwritten by the network's next run."""

    address: int
    shape: tuple[int, ...]
    device: Device


def open_device() -> Device:
    """Open the first GPU by the first library that is installed: cuda-bindings, then pycuda.

    Raises
    ------
    SettingsError
        If no library is installed, or there is no GPU for it.
    """

    libraries: tuple[Callable[[], Device], ...] = (CudaBindings, PyCuda)
    for library in libraries:
        try:
            return library()
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("pycuda", "cuda"):
                raise
        except Exception as error:  # noqa: BLE001  pycuda's errors share no base with Python's
            reason = f"{type(error).__name__}: {error}"
            raise SettingsError(f"no GPU can be used ({reason}): see whether nvidia-smi lists one here") from error
    raise SettingsError(
        "the GPU cannot be reached: install cuda-bindings (`pip install 'edgead[tensorrt]'`), or pycuda where nvcc is "
        "at hand (`pip install 'edgead[pycuda]'`)"
    )


def find_gpu() -> Gpu:
    """Name the first GPU; raises what `open_device` raises."""
    device = open_device()
    device.close()
    return device.gpu


class PyCuda:
    """`Device` by pycuda, which is built from source on the device."""

    def __init__(self) -> None:
        driver, device, self._context = _pycuda()
        self._driver = driver
        self.gpu = Gpu(device.name(), "sm{}{}".format(*device.compute_capability()))
        self._memory: list[Any] = []
        with self.current():
            self._stream = driver.Stream(_NON_BLOCKING)
        self.stream: int = self._stream.handle

    @contextmanager
    def current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        return self._driver.pagelocked_zeros(shape, dtype)

    def allocate(self, nbytes: int) -> int:
        self._memory.append(self._driver.mem_alloc(nbytes))
        return int(self._memory[-1])

    def copy_in(self, address: int, source: np.ndarray) -> None:
        self._driver.memcpy_htod_async(address, source, self._stream)

    def copy_out(self, target: np.ndarray, address: int) -> None:
        self._driver.memcpy_dtoh_async(target, address, self._stream)

    def wait(self) -> None:
        self._stream.synchronize()

    def close(self) -> None:
        with self.current():
            self._memory.clear()
            self._stream = None


@cache
def _pycuda() -> tuple[Any, Any, Any]:
    """pycuda's driver, the first device, and its primary context.

    The context is kept until the process ends: where pycuda lets go of one, it leaves it current in the thread, and if
    nobody else holds it, the next call of CUDA there fails.
    """
    driver = importlib.import_module("pycuda.driver")
    driver.init()
    device = driver.Device(0)
    context = device.retain_primary_context()
    atexit.register(context.detach)
    return driver, device, context


class CudaBindings:
    """`Device` by cuda-bindings, which are wheels and need the driver alone."""

    def __init__(self) -> None:
        self._driver = driver = importlib.import_module("cuda.bindings.driver")
        call(driver.cuInit, 0)
        self._device = call(driver.cuDeviceGet, 0)
        name = call(driver.cuDeviceGetName, 256, self._device)
        attribute = driver.CUdevice_attribute
        major, minor = (
            call(driver.cuDeviceGetAttribute, number, self._device)
            for number in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        self.gpu = Gpu(name.partition(b"\0")[0].decode(), f"sm{major}{minor}")
        self._context = call(driver.cuDevicePrimaryCtxRetain, self._device)
        self._memory: list[int] = []
        self._pinned: list[int] = []
        with self.current():
            self.stream = int(call(driver.cuStreamCreate, _NON_BLOCKING))

    @contextmanager
    def current(self) -> Iterator[None]:
        call(self._driver.cuCtxPushCurrent, self._context)
        try:
            yield
        finally:
            call(self._driver.cuCtxPopCurrent)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._pinned.append(call(self._driver.cuMemHostAlloc, nbytes, 0))
        array = np.ctypeslib.as_array((ctypes.c_ubyte * nbytes).from_address(self._pinned[-1])).view(dtype)
        array = array.reshape(shape)
        array[...] = 0
        return array

    def allocate(self, nbytes: int) -> int:
        self._memory.append(int(call(self._driver.cuMemAlloc, nbytes)))
        return self._memory[-1]

    def copy_in(self, address: int, source: np.ndarray) -> None:
        call(self._driver.cuMemcpyHtoDAsync, address, source.ctypes.data, source.nbytes, self.stream)

    def copy_out(self, target: np.ndarray, address: int) -> None:
        call(self._driver.cuMemcpyDtoHAsync, target.ctypes.data, address, target.nbytes, self.stream)

    def wait(self) -> None:
        call(self._driver.cuStreamSynchronize, self.stream)

    def close(self) -> None:
        with self.current():
            for address in self._memory:
                call(self._driver.cuMemFree, address)
            for address in self._pinned:
                call(self._driver.cuMemFreeHost, address)
            call(self._driver.cuStreamDestroy, self.stream)
        call(self._driver.cuDevicePrimaryCtxRelease, self._device)


class CudaGraph:
    """What was put into a stream while it was captured: one call launches all of it again."""

    def __init__(self, driver: Any, launchable: Any, stream: int):
        self._driver, self._launchable, self._stream = driver, launchable, stream

    def launch(self) -> None:
        call(self._driver.cuGraphLaunch, self._launchable, self._stream)

    def close(self) -> None:
        call(self._driver.cuGraphExecDestroy, self._launchable)


def capture(stream: int, enqueue: Callable[[], bool]) -> CudaGraph | None:
    """Record what `enqueue` puts into a stream. pycuda has no calls for graphs, so this needs cuda-bindings beside it.

    Parameters
    ----------
    stream : int
    enqueue : callable
        False if it could not put its work into the stream.

    Returns
    -------
    CudaGraph or None
        None if there are no cuda-bindings or the work cannot be captured; nothing is then left in the stream.
    """
    try:
        driver = importlib.import_module("cuda.bindings.driver")
    except ModuleNotFoundError:
        return None
    # What other threads do meanwhile does not spoil the capture.
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    call(driver.cuStreamBeginCapture, stream, mode)
    accepted = False
    try:
        accepted = enqueue()
    finally:
        status, graph = driver.cuStreamEndCapture(stream)  # fails where a call that cannot be captured was made
        launchable = call(driver.cuGraphInstantiate, graph, 0) if accepted and not status.value else None
        if not status.value:
            call(driver.cuGraphDestroy, graph)
    return CudaGraph(driver, launchable, stream) if launchable is not None else None


def call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a function of cuda-bindings; return its one result, or None.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    status, *results = function(*arguments)
    if status.value:
        raise RuntimeError(f"CUDA: {function.__name__} failed with {status.name}")
    return results[0] if results else None
