"""Access to one GPU through NVIDIA's cuda-bindings: memory, pinned host memory and a stream.

Addresses and streams are integers.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.errors import SettingsError

logger = logging.getLogger(__name__)

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream, which others may use
_MAPPED = 2  # CU_MEMHOSTALLOC_DEVICEMAP: has an address on the GPU too
_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class Gpu:
    """GPU's name, such as "NVIDIA RTX A2000", and compute capability, such as "sm86"."""

    name: str
    target: str

    def __str__(self) -> str:
        return f"{self.name} ({self.target})"


@dataclass(frozen=True, slots=True)
class OneMemory:
    """`Shared` for boards where host and GPU use the same memory: its copies do nothing."""

    array: np.ndarray
    address: int

    def copy_in(self, part: slice = _ALL) -> None: ...
    def copy_out(self, part: slice = _ALL) -> None: ...


@dataclass(frozen=True, slots=True)
class CopiedMemory:
    """`Shared` for separate memories of host and GPU: each side sees the other's data after a copy."""

    array: np.ndarray
    address: int
    device: Device

    def copy_in(self, part: slice = _ALL) -> None:
        """Enqueue a copy of the host's data to the GPU; `part` is a slice of the flat array."""
        self.device.copy_in(self._at(part), self.array.reshape(-1)[part])

    def copy_out(self, part: slice = _ALL) -> None:
        """Enqueue a copy of the GPU's data to the host; `part` is a slice of the flat array."""
        self.device.copy_out(self.array.reshape(-1)[part], self._at(part))

    def _at(self, part: slice) -> int:
        return self.address + self.array.itemsize * (part.start or 0)


Shared = OneMemory | CopiedMemory
"""Memory for host and GPU: a pinned array, zeros at first, which may outlive the device, and its address on the GPU,
valid until `Device.close`. For both types the host calls `copy_in` after writing and `copy_out` before reading; it
reads after `Device.wait`, and does not write while the stream uses the array."""


class CudaError(RuntimeError):
    """Failed call of the CUDA driver."""


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """float32 array on a GPU, C order, which the network's next run overwrites.

    `then` registers a function that enqueues work after the network in every later run; `run` waits for that work too.
    The function must enqueue the same work each time, as it may be captured into a CUDA graph.
    """

    address: int
    shape: tuple[int, ...]
    device: Device
    then: Callable[[Callable[[], None]], None]


def open_device() -> Device:
    """Open the first GPU.

    Raises SettingsError: cuda-bindings are not installed, or find no GPU; the message has the reason.
    """
    try:
        return Device()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cuda":
            raise
        raise SettingsError(
            "the GPU cannot be reached: install cuda-bindings (`pip install 'edgead[tensorrt]'`)"
        ) from error
    except Exception as error:  # noqa: BLE001  a library that is broken, or of another CUDA, fails in any way
        raise SettingsError(
            f"no GPU can be used (cuda-bindings: {type(error).__name__}: {error}): see whether nvidia-smi lists one "
            "here"
        ) from error


def find_gpu() -> Gpu:
    """Return name and compute capability of the first GPU; raises the errors of `open_device`."""
    device = open_device()
    device.close()
    return device.gpu


class Device:
    """First GPU of the machine, with one stream. Its other methods must be called inside `with device.current():`.

    `unified`: whether host and GPU have one memory, as on a Jetson, so that nothing need be copied between them.
    """

    def __init__(self) -> None:
        self._driver = driver = importlib.import_module("cuda.bindings.driver")
        call(driver.cuInit, 0)
        device = call(driver.cuDeviceGet, 0)
        name = call(driver.cuDeviceGetName, 256, device)
        attribute = driver.CUdevice_attribute
        major, minor, integrated, maps = (
            call(driver.cuDeviceGetAttribute, number, device)
            for number in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED,
                attribute.CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY,
            )
        )
        # A discrete card can map host memory too, but reads it over the bus each time.
        self.unified = bool(integrated and maps)
        self.gpu = Gpu(name.partition(b"\0")[0].decode(), f"sm{major}{minor}")
        self._context = _PrimaryContext(driver, device)
        self._memory: list[int] = []
        with self.current():
            self.stream = int(call(driver.cuStreamCreate, _NON_BLOCKING))

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU's context current in the calling thread for a `with` block."""
        return self._context.current()

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """Allocate a page-locked host array, which the GPU copies without the CPU; it may outlive `close`."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address: int = call(self._driver.cuMemHostAlloc, nbytes, _MAPPED if self.unified else 0)

        def free(driver: Any = self._driver, context: _PrimaryContext = self._context) -> None:
            with context.current():
                call(driver.cuMemFreeHost, address)

        array = _array_at(address, shape, dtype, free)
        array[...] = 0
        return array

    def share(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Shared:
        """Allocate memory that the host and the GPU both use; see `Shared`."""
        array = self.pinned(shape, dtype)
        if not self.unified:
            return CopiedMemory(array, self.allocate(array.nbytes), self)
        return OneMemory(array, int(call(self._driver.cuMemHostGetDevicePointer, array.ctypes.data, 0)))

    def allocate(self, nbytes: int) -> int:
        """Allocate memory on the GPU; it lasts until `free` or `close`."""
        self._memory.append(int(call(self._driver.cuMemAlloc, nbytes)))
        return self._memory[-1]

    def free(self, address: int) -> None:
        """Free allocated memory; nothing in the stream may use it any more."""
        self._memory.remove(address)
        call(self._driver.cuMemFree, address)

    def copy_in(self, address: int, source: np.ndarray) -> None:
        """Copy a pinned array to the GPU, in the stream."""
        call(self._driver.cuMemcpyHtoDAsync, address, source.ctypes.data, source.nbytes, self.stream)

    def copy_out(self, target: np.ndarray, address: int) -> None:
        """Copy from the GPU into a pinned array, in the stream."""
        call(self._driver.cuMemcpyDtoHAsync, target.ctypes.data, address, target.nbytes, self.stream)

    def wait(self) -> None:
        """Wait until everything in the stream is done."""
        call(self._driver.cuStreamSynchronize, self.stream)

    def capture(self, enqueue: Callable[[], bool]) -> CudaGraph | None:
        """Capture the work that `enqueue` puts into the stream as a graph, which one call launches again.

        `enqueue`: function that puts work into the stream; returns False if it failed.
        Returns None if the work cannot be captured; nothing is then left in the stream.
        """
        driver = self._driver
        # Work of other threads does not invalidate the capture, except waits for the whole GPU.
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        call(driver.cuStreamBeginCapture, self.stream, mode)
        accepted = False
        try:
            accepted = enqueue()
        except RuntimeError as error:  # CUDA's, here or in edgead._cuda: the capture was invalidated
            sound = driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE
            if call(driver.cuStreamIsCapturing, self.stream) == sound:
                raise
            logger.debug("what was put into the stream cannot be captured: %s", error)
        finally:
            status, captured = driver.cuStreamEndCapture(self.stream)  # fails if the capture was invalidated
            graph = None if status.value else self._launchable(captured, wanted=accepted)
        return graph

    def _launchable(self, captured: Any, *, wanted: bool) -> CudaGraph | None:
        driver = self._driver
        try:
            return CudaGraph(driver, call(driver.cuGraphInstantiate, captured, 0), self.stream) if wanted else None
        except CudaError as error:
            logger.debug("what was captured makes no graph: %s", error)
            return None
        finally:
            call(driver.cuGraphDestroy, captured)

    def close(self) -> None:
        with self.current():
            self._driver.cuStreamSynchronize(self.stream)  # work in the stream still uses the memory
            for address in self._memory:
                call(self._driver.cuMemFree, address)
            call(self._driver.cuStreamDestroy, self.stream)
        del self._context  # kept alive until the last pinned array is released


class _PrimaryContext:
    """Primary context of a GPU, released with the last reference to this object."""

    def __init__(self, driver: Any, device: Any):
        self._driver, self._context = driver, call(driver.cuDevicePrimaryCtxRetain, device)
        weakref.finalize(self, call, driver.cuDevicePrimaryCtxRelease, device).atexit = False

    @contextmanager
    def current(self) -> Iterator[None]:
        call(self._driver.cuCtxPushCurrent, self._context)
        try:
            yield
        finally:
            call(self._driver.cuCtxPopCurrent)


def _array_at(address: int, shape: tuple[int, ...], dtype: npt.DTypeLike, free: Callable[[], None]) -> np.ndarray:
    """Wrap memory at an address as an array; `free` is called when the last array on it is released."""
    memory = (ctypes.c_ubyte * (int(np.prod(shape)) * np.dtype(dtype).itemsize)).from_address(address)
    # At exit threads may still read the memory, and the system frees it.
    weakref.finalize(memory, free).atexit = False
    return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)


class CudaGraph:
    """Captured work of a stream, which one call launches again."""

    def __init__(self, driver: Any, launchable: Any, stream: int):
        self._driver, self._launchable, self._stream = driver, launchable, stream

    def launch(self) -> None:
        call(self._driver.cuGraphLaunch, self._launchable, self._stream)

    def close(self) -> None:
        call(self._driver.cuGraphExecDestroy, self._launchable)


def call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a function of cuda-bindings; return its single result, or None.

    Raises CudaError: the call fails.
    """
    status, *results = function(*arguments)
    if status.value:
        raise CudaError(f"CUDA: {function.__name__} failed with {status.name}")
    return results[0] if results else None
