"""Choice of the code that runs a kernel."""

from __future__ import annotations

import importlib
import logging
import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt

from edgead.errors import SettingsError

MAX_THREADS = 256

native: ModuleType | None
try:
    # `from edgead import _native` would raise a plain ImportError, whether it is missing or broken.
    native = importlib.import_module("edgead._native")
except ModuleNotFoundError as error:
    # Platforms without the extension. An extension that exists and does not load is an error to show.
    if error.name != "edgead._native":
        raise
    native = None

NOT_BUILT = (
    "the compiled kernels are not there: numpy does their work, up to 30 times slower. Build them with a C++ compiler: "
    "`pip install -e .` in a checkout, elsewhere `pip install --force-reinstall --no-binary edgead edgead`"
)

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
_set_count: int | None = None  # value of set_threads, kept here if there is no native code


def backends() -> tuple[str, ...]:
    """List the backends that work here: that of "auto" first; "cuda" last, as it must copy arrays to the GPU."""
    return (*_host_backends(), "cuda") if not cuda_problem() else _host_backends()


def available_isas() -> tuple[str, ...]:
    """List the instruction set levels that this machine can run, plain to wide; empty without native code."""
    return tuple(native.available_isas()) if native else ()


def multiplies_int8() -> bool:
    """Whether this CPU has instructions that sum products of 8-bit numbers (VNNI, Arm's dot product)."""
    return any(level.endswith(("vnni", "dot")) for level in available_isas())


def gains_by_int8() -> bool:
    """Whether an int8 network may be faster on this CPU: `multiplies_int8`, or AVX2, which needs three instructions."""
    return multiplies_int8() or "avx2" in available_isas()


def isa() -> str:
    """Name the instruction set level in use: the widest, or the one that EDGEAD_ISA names; "" without native code.

    Raises
    ------
    SettingsError
        If EDGEAD_ISA names a level that this machine cannot run.
    """
    with _settings():
        return native.isa() if native else ""


def threads() -> int:
    """Number of threads that a kernel may use: set_threads, else EDGEAD_THREADS, else the CPUs of this process.

    Raises
    ------
    SettingsError
        If EDGEAD_THREADS is not a whole number from 1 to 256.
    """
    if native:
        with _settings():
            return native.threads()
    return _set_count or _default_threads()


def set_threads(count: int) -> None:
    """Set the number of threads, for the whole process; no effect on the numpy backend.

    Raises
    ------
    SettingsError
        If `count` is not from 1 to 256.
    """
    global _set_count
    count = operator.index(count)
    if not 1 <= count <= MAX_THREADS:
        raise SettingsError(f"the number of threads must be a whole number from 1 to {MAX_THREADS}")
    if native:
        native.set_threads(count)
    else:
        _set_count = count


def load_cuda() -> ModuleType:
    """Import the CUDA kernels; CUDA is not initialised before this call.

    Raises
    ------
    SettingsError
        They are not built, or there is no device that can run them; `cuda_problem` returns the same text.
    """
    try:
        cuda = importlib.import_module("edgead._cuda")
    except ModuleNotFoundError as error:
        if error.name != "edgead._cuda":
            raise
        raise SettingsError(
            "backend 'cuda' needs edgead's CUDA extension, which is not built: "
            "install edgead from source with EDGEAD_CUDA=1 and nvcc on the PATH, or use backend='cpu'"
        ) from None
    if cuda.device_count() == 0:
        raise SettingsError(
            f"backend 'cuda' found no GPU ({cuda.device_problem()}): "
            "see whether nvidia-smi lists one here and update its driver, or use backend='cpu'"
        )
    if problem := cuda.kernel_problem():
        raise SettingsError(f"backend 'cuda' does not run on {problem}; or use backend='cpu'")
    return cuda


def cuda_problem() -> str:
    """Return why the backend "cuda" cannot be used here; "" if it can."""
    try:
        load_cuda()
    except SettingsError as error:
        return str(error)
    return ""


def resolve(backend: str, *, cuda: bool = True) -> tuple[ModuleType | None, str]:
    """Resolve a backend's name to its module, or None for numpy, and the instruction set level, or "cuda".

    `cuda` states whether the calling kernel has code for that backend.

    Raises
    ------
    SettingsError
        If there is no such backend here, or EDGEAD_ISA or EDGEAD_THREADS cannot be used.
    """
    kind, _, level = backend.partition(":")
    if kind == "auto" and not level:
        kind = _host_backends()[0]
        if native is None:
            _warn_of_numpy()
    if kind == "numpy" and not level:
        return None, ""
    if kind == "cuda" and not level:
        if not cuda:
            raise SettingsError("backend 'cuda' has no code for this kernel: use backend='cpu'")
        return load_cuda(), "cuda"
    if kind != "cpu":
        known = [*_host_backends(), *(f"cpu:{level}" for level in available_isas()), "cuda"]
        raise SettingsError(f"backend {backend!r} is unknown: use one of auto, {', '.join(known)}")
    if native is None:
        raise SettingsError(
            "backend 'cpu' needs edgead's native extension, which is not installed: "
            "reinstall edgead with a C++ compiler, or use backend='numpy'"
        )
    with _settings():
        native.threads()  # checked here, so that no kernel fails on EDGEAD_THREADS in the middle of its work
        return native, native.find_isa(level)


def as_floats(array: npt.ArrayLike, name: str, shape: str) -> Floats:
    """Check that `array` is an aligned float32 C-ordered array of the shape's rank; never copies."""
    rank = shape.count(",") + 1
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a float32 ndarray of shape {shape}, found {type(array).__name__}")
    if array.ndim != rank:
        raise ValueError(f"{name} must have shape {shape}, found {array.shape}")
    if array.dtype != np.float32:
        raise TypeError(f"{name} must be float32, found {array.dtype}: convert it with .astype(np.float32)")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} must be in C order: convert it with np.ascontiguousarray")
    if not array.flags.aligned:
        raise ValueError(f"{name} must begin at a multiple of 4 bytes: convert it with .copy()")
    return array


def check_finite(array: Floats, name: str) -> None:
    """Raise ValueError, naming the first row, if a row of `array` holds NaN or Inf."""
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name} has NaN or Inf in row {int(np.argmin(finite))}: remove it or fix what produced it")


@cache
def _warn_of_numpy() -> None:
    """Warn once per process of the fallback to numpy, which otherwise shows only as slow frames."""
    logger.warning("%s", NOT_BUILT)


def _host_backends() -> tuple[str, ...]:
    return ("cpu", "numpy") if native else ("numpy",)


@contextmanager
def _settings() -> Iterator[None]:
    """Convert native errors on a setting to SettingsError."""
    try:
        yield
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _default_threads() -> int:
    text = os.environ.get("EDGEAD_THREADS", "")
    if text:
        count = int(text) if text.isascii() and text.isdecimal() else 0
        if not 1 <= count <= MAX_THREADS:
            raise SettingsError(f"EDGEAD_THREADS is '{text}': it must be a whole number from 1 to {MAX_THREADS}")
        return count
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, MAX_THREADS)
