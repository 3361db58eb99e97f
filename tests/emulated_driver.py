"""Emulated CUDA driver, as a library whose settings and counters a test may reach."""

from __future__ import annotations

import ctypes

import pytest


def emulated_driver() -> ctypes.CDLL:
    """Open it; skips the test where the driver is a real one, or none."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
        library.emulator_set.argtypes = (ctypes.c_char_p, ctypes.c_int)
    except (AttributeError, OSError):
        pytest.skip("only the emulated driver counts, and can be another card")
    return library
