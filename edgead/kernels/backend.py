"""Which code runs a kernel."""

from __future__ import annotations

import operator
from types import ModuleType

import numpy as np
import numpy.typing as npt

native: ModuleType | None
try:
    from edgead import _native as native
except ModuleNotFoundError:
    # A platform without the extension. One that is there and does not load is an error that must be seen.
    native = None

Floats = npt.NDArray[np.float32]


def backends() -> tuple[str, ...]:
    """Name the backends of this installation, fastest first."""
    return ("cpu", "numpy") if native else ("numpy",)


def available_isas() -> tuple[str, ...]:
    """Name the instruction set levels that this machine can run, plain to wide; empty without native code."""
    return tuple(native.available_isas()) if native else ()


def isa() -> str:
    """Name the instruction set level in use: the widest, or the one that EDGEAD_ISA names; "" without native code.

    Raises
    ------
    ValueError
        If EDGEAD_ISA names a level that this machine cannot run.
    """
    return native.isa() if native else ""


def threads() -> int:
    """Count the threads that a kernel may use: set_threads, else EDGEAD_THREADS, else the CPUs this process may use."""
    return native.threads() if native else 1


def set_threads(count: int) -> None:
    """Set the number of threads, for the whole process; no effect on the numpy backend.

    Raises
    ------
    ValueError
        If `count` is not from 1 to 256.
    """
    if native:
        native.set_threads(operator.index(count))


def resolve(backend: str) -> tuple[ModuleType | None, str]:
    """Turn a backend's name into the native module, or None for numpy, and the level's name."""
    kind, _, level = backend.partition(":")
    if kind == "auto" and not level:
        kind = backends()[0]
    if kind == "numpy" and not level:
        return None, ""
    if kind != "cpu":
        known = [*backends(), *(f"cpu:{level}" for level in available_isas())]
        raise ValueError(f"backend {backend!r} is unknown: use one of auto, {', '.join(known)}")
    if native is None:
        raise ValueError(
            "backend 'cpu' needs edgead's native extension, which is not installed: "
            "reinstall edgead with a C++ compiler, or use backend='numpy'"
        )
    return native, native.find_isa(level)


def as_floats(array: npt.ArrayLike, name: str, shape: str) -> Floats:
    """Check that `array` is a non-empty-dimensional float32 C-ordered array of the shape's rank; never copy."""
    rank = shape.count(",") + 1
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a float32 ndarray of shape {shape}, found {type(array).__name__}")
    if array.ndim != rank:
        raise ValueError(f"{name} must have shape {shape}, found {array.shape}")
    if array.dtype != np.float32:
        raise TypeError(f"{name} must be float32, found {array.dtype}: convert it with .astype(np.float32)")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} must be in C order: convert it with np.ascontiguousarray")
    return array


def check_finite(array: Floats, name: str) -> None:
    """Raise ValueError, naming the first row, if a row of `array` holds NaN or Inf."""
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name} has NaN or Inf in row {int(np.argmin(finite))}: remove it or mend what produced it")
