"""Access to one GPU through NVIDIA's cuda-bindings or pycuda: memory, pinned host memory and a stream.

Addresses and streams are integers.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

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

    @classmethod
    def allocate(cls, device: Device, shape: tuple[int, ...], dtype: npt.DTypeLike) -> CopiedMemory:
        array = device.pinned(shape, dtype)
        return cls(array, device.allocate(array.nbytes), device)

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


class Device(Protocol):
    """First GPU of the machine, with one stream. All other methods must be called inside `with device.current():`."""

    gpu: Gpu
    stream: int
    unified: bool
    """Whether host and GPU have one memory, as on a Jetson, so that nothing need be copied between them."""

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU's context current in the calling thread for a `with` block."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """Allocate a page-locked host array, which the GPU copies without the CPU; it may outlive `close`."""
        ...

    def allocate(self, nbytes: int) -> int:
        """Allocate memory on the GPU; it lasts until `free` or `close`."""
        ...

    def free(self, address: int) -> None:
        """Free allocated memory; nothing in the stream may use it any more."""
        ...

    def share(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Shared:
        """Allocate memory that the host and the GPU both use; see `Shared`."""
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

    def capture(self, enqueue: Callable[[], bool]) -> CudaGraph | None:
        """Capture the work that `enqueue` puts into the stream as a graph, which one call launches again.

        `enqueue`: function that puts work into the stream; returns False if it failed.
        Returns none if the library has no graphs or the work cannot be captured; nothing is then left in the stream.
        """
        ...

    def close(self) -> None: ...


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
    """Open the first GPU with the first library that works: cuda-bindings, then pycuda.

    Raises SettingsError: no library is installed, or none finds a GPU; the message has the reason of each.
    """

    libraries: dict[str, Callable[[], Device]] = {"cuda-bindings": CudaBindings, "pycuda": PyCuda}
    reasons = []
    for name, library in libraries.items():
        try:
            return library()
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("pycuda", "cuda"):
                raise
        except Exception as error:  # noqa: BLE001  pycuda's errors share no base with Python's
            reasons.append(f"{name}: {type(error).__name__}: {error}")
    if reasons:
        raise SettingsError(f"no GPU can be used ({'; '.join(reasons)}): see whether nvidia-smi lists one here")
    raise SettingsError(
        "the GPU cannot be reached: install cuda-bindings (`pip install 'edgead[tensorrt]'`), or pycuda where nvcc is "
        "at hand (`pip install 'edgead[pycuda]'`)"
    )


def find_gpu() -> Gpu:
    """Return name and compute capability of the first GPU; raises the errors of `open_device`."""
    device = open_device()
    device.close()
    return device.gpu


class PyCuda:
    """`Device` by pycuda, which is built from source on the device. Shared memory is always copied."""

    unified = False

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

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert pycuda's errors, which have no common base class, to `CudaError`."""
        try:
            yield
        except self._driver.Error as error:
            raise CudaError(f"pycuda: {error}") from error

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        # pycuda frees nothing in a thread without a context, and the last array may be released in one.
        with self._errors():
            owner = [self._driver.pagelocked_zeros(shape, dtype)]

        def free(context: Any = self._context) -> None:
            context.push()
            owner.clear()
            context.pop()

        return _array_at(owner[0].ctypes.data, shape, dtype, free)

    def share(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Shared:
        return CopiedMemory.allocate(self, shape, dtype)

    def allocate(self, nbytes: int) -> int:
        with self._errors():
            self._memory.append(self._driver.mem_alloc(nbytes))
        return int(self._memory[-1])

    def free(self, address: int) -> None:
        self._memory = [memory for memory in self._memory if int(memory) != address]

    def copy_in(self, address: int, source: np.ndarray) -> None:
        self._driver.memcpy_htod_async(address, source, self._stream)

    def copy_out(self, target: np.ndarray, address: int) -> None:
        self._driver.memcpy_dtoh_async(target, address, self._stream)

    def wait(self) -> None:
        self._stream.synchronize()

    def capture(self, enqueue: Callable[[], bool]) -> CudaGraph | None:
        return None  # pycuda has no calls for graphs

    def close(self) -> None:
        with self.current():
            self._memory.clear()
            self._stream = None


@cache
def _pycuda() -> tuple[Any, Any, Any]:
    """pycuda's driver, the first device, and its primary context.

    The context is kept until the process ends: pycuda leaves a released context current in the thread, and unless
    another owner holds it, the next CUDA call there fails.
    """
    driver = importlib.import_module("pycuda.driver")
    driver.init()
    device = driver.Device(0)
    context = device.retain_primary_context()
    atexit.register(context.detach)
    return driver, device, context


class CudaBindings:
    """`Device` by cuda-bindings, which come as wheels and need only the driver."""

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
        return self._context.current()

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address: int = call(self._driver.cuMemHostAlloc, nbytes, _MAPPED if self.unified else 0)

        def free(driver: Any = self._driver, context: _PrimaryContext = self._context) -> None:
            with context.current():
                call(driver.cuMemFreeHost, address)

        array = _array_at(address, shape, dtype, free)
        array[...] = 0
        return array

    def share(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Shared:
        if not self.unified:
            return CopiedMemory.allocate(self, shape, dtype)
        array = self.pinned(shape, dtype)
        return OneMemory(array, int(call(self._driver.cuMemHostGetDevicePointer, array.ctypes.data, 0)))

    def allocate(self, nbytes: int) -> int:
        self._memory.append(int(call(self._driver.cuMemAlloc, nbytes)))
        return self._memory[-1]

    def free(self, address: int) -> None:
        self._memory.remove(address)
        call(self._driver.cuMemFree, address)

    def copy_in(self, address: int, source: np.ndarray) -> None:
        call(self._driver.cuMemcpyHtoDAsync, address, source.ctypes.data, source.nbytes, self.stream)

    def copy_out(self, target: np.ndarray, address: int) -> None:
        call(self._driver.cuMemcpyDtoHAsync, target.ctypes.data, address, target.nbytes, self.stream)

    def wait(self) -> None:
        call(self._driver.cuStreamSynchronize, self.stream)

    def capture(self, enqueue: Callable[[], bool]) -> CudaGraph | None:
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
