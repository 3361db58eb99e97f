"""Memory of this process: its peak, and the freed memory that the C library keeps or returns."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h
_LARGEST, _MAX_KEPT = 256 * 2**20, 1024 * 2**20


def give_back() -> None:
    """Return freed memory that glibc keeps to the system; do nothing with another C library.

    Different threads load models, and each thread's arena keeps the peak of its loading. After 40 exchanges of a model
    of 60 MB the process held 518 MB; limited to two arenas (`MALLOC_ARENA_MAX=2`) 403 MB; with this call after each
    exchange 262 MB, the same as after the tenth exchange.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep() -> None:
    """Let glibc keep freed blocks of up to 256 MiB for later use; do nothing with another C library.

    Otherwise each activation of a network is mapped again, and the system clears its pages: EfficientNet-Lite2 at
    448 x 448 pixels in torch took 350 ms an image instead of 70.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _MAX_KEPT)


try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None  # type: ignore[assignment]


def peak_memory_mib() -> int | None:
    """Return the most memory that this process has held since its start, in MiB; None if the system does not tell."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)
