"""Reader of float32 .npy files from bytes: makes no copy, and does not trust the header's sizes."""

from __future__ import annotations

import math
import re

import numpy as np

# The format is numpy's (numpy.lib.format); numpy's own reader accepts any Python literal and fails in many ways.
_START = re.compile(rb"\x93NUMPY(?:\x01\x00(..)|\x02\x00(....))", re.DOTALL)
_HEADER = re.compile(
    rb"{'descr': '([^']{1,20})', 'fortran_order': (True|False), 'shape': \(((?:\d{1,19}, ?)*(?:\d{1,19})?)\), } *\n"
)
_MAX_HEADER_BYTES = 10_000
MAX_SIDES = 4
# With such values the squared distance of two rows is still a finite float32.
MAX_VALUE = 1e15


def read_array(content: bytes) -> np.ndarray:
    """Parse the bytes of an .npy file; the array shares their memory.

    `content`: content of the file.
    Returns ndarray of one to four dimensions, float32, C order, read only.
    Raises ValueError: the content is anything but a finite float32 array in C order that fills the file; says what was
        found.
    """
    kind, in_fortran_order, shape, start = _header(content)
    if kind != "<f4" or not 1 <= len(shape) <= MAX_SIDES:
        raise ValueError(f"it is {kind} of shape {shape}, not float32 with 1 to {MAX_SIDES} sides")
    if in_fortran_order:
        raise ValueError("it is in Fortran order: rows must lie one after the other")
    if min(shape) < 1:
        raise ValueError(f"its shape is {shape}: it has no values")
    if 4 * math.prod(shape) != len(content) - start:
        raise ValueError(f"its header says {shape}, which is not what {len(content) - start} bytes of values hold")
    array = np.frombuffer(content, "<f4", offset=start).reshape(shape)
    # Not np.isfinite, which would allocate another array; NaN fails the comparison.
    if not (float(array.max()) <= MAX_VALUE and float(array.min()) >= -MAX_VALUE):
        raise ValueError(f"it has values that are not finite, or beyond {MAX_VALUE:g}")
    return array


def _header(content: bytes) -> tuple[str, bool, tuple[int, ...], int]:
    """Read the type, whether it is in Fortran order, the shape, and where the values begin."""
    found = _START.match(content)
    if not found:
        raise ValueError("it is no .npy file of version 1 or 2")
    start = found.end() + int.from_bytes(found[1] or found[2], "little")
    header = _HEADER.fullmatch(content[found.end() : min(start, found.end() + _MAX_HEADER_BYTES)])
    if not header:
        raise ValueError("its header is none of an array of numbers")
    shape = tuple(int(side) for side in re.findall(rb"\d+", header[3]))
    return header[1].decode("latin-1"), header[2] == b"True", shape, start
