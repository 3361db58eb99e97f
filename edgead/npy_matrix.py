"""A float32 matrix from the bytes of an .npy file, without a copy and without memory for what its header claims."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.lib import format as npy

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# The squared distance of two such rows is still a float32.
MOST_VALUE = 1e15


def read_matrix(content: bytes) -> np.ndarray:
    """Read a matrix.

    Parameters
    ----------
    content : bytes
        They stay the matrix's memory.

    Returns
    -------
    ndarray of shape (m, d), float32, C order, read only

    Raises
    ------
    ValueError
        Anything but a finite float32 matrix in C order that fills the file; says what was found.
    """
    shape, fortran, dtype, start = _header(content)
    if dtype != np.dtype("<f4") or len(shape) != 2:
        raise ValueError(f"it is {dtype} of shape {shape}, not a float32 matrix")
    if fortran:
        raise ValueError("it is in Fortran order: rows must lie one after the other")
    if min(shape) < 1:
        raise ValueError(f"its shape is {shape}: it has no values")
    if 4 * math.prod(shape) != len(content) - start:
        raise ValueError(f"its header says {shape}, which is not what {len(content) - start} bytes of values hold")
    matrix = np.frombuffer(content, "<f4", offset=start).reshape(shape)
    # Not np.isfinite, which would make an array as well; what is NaN fails the comparison.
    if not (float(matrix.max()) <= MOST_VALUE and float(matrix.min()) >= -MOST_VALUE):
        raise ValueError(f"it has values that are not finite, or beyond {MOST_VALUE:g}")
    return matrix


def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    stream = io.BytesIO(content)
    try:
        version = npy.read_magic(stream)
        if version not in _READERS:
            raise ValueError(f"its format {version[0]}.{version[1]} is unknown")
        shape, fortran, dtype = _READERS[version](stream)
    except (ValueError, EOFError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise ValueError(f"it is no .npy file: {error}") from error
    return shape, fortran, dtype, stream.tell()
