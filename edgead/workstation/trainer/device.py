"""Device, number format and memory use of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from edgead import kernels
from edgead.errors import SettingsError
from edgead.process import memory
from edgead.process.memory import peak_memory_mib

DEVICES = ("auto", "cpu", "cuda")
CPU = torch.device("cpu")


def choose_device(name: str) -> torch.device:
    """Resolve a name in `DEVICES` to a device; "auto" is the GPU if torch finds one.

    Raises SettingsError: the name is unknown, or "cuda" without a GPU that torch finds.
    """
    if name not in DEVICES:
        raise SettingsError(f"unknown device {name!r}: choose one of {', '.join(DEVICES)}")
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise SettingsError(f"device cuda: torch {torch.__version__} finds no GPU; choose cpu or auto")
    return torch.device("cuda" if found and name != "cpu" else "cpu")


def use_cores(threads: int | None = None) -> None:
    """Set torch's number of threads, by default that of the kernels, and let it reuse the memory of large tensors."""
    torch.set_num_threads(threads or kernels.threads())
    memory.keep()


def bfloat16_products(device: torch.device, wanted: bool) -> torch.autocast:
    """Make a context in which networks multiply in bfloat16, if wanted; weights and their updates stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


@contextmanager
def fixed_shapes() -> Iterator[None]:
    """Context in which cuDNN times its algorithms once for each shape, which suits steps of equal shapes.

    Different runs may choose different algorithms, so that results on a GPU differ in their last bits.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def peak_memory(device: torch.device) -> dict[str, int | None]:
    """Return the peak memory of this process since its start, and of torch on the GPU, in MiB."""
    peak = {"peak_memory_mib": peak_memory_mib()}
    if device.type == "cuda":
        peak["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) // 2**20
    return peak
