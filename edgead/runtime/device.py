"""One GPU as the runtime needs it: pinned memory, memory, a stream. Addresses and streams are integers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgead.errors import SettingsError


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
    from edgead.runtime.cuda_libraries import CudaBindings, PyCuda

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
