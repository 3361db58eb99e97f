"""Bands of a resize: the weights of source pixels for each output pixel and axis, as on the CPU, for use on a GPU.

`shrink` is ours. The others are those of `cv2.resize` for 8 bits, as OpenCV 4.10 and 5.0 do them on x86-64: the mean of
whole blocks, the mean of areas in float32, and linear interpolation in units of 2^-11. A build of OpenCV that rounds
differently has other pixels, so the GPU's results are compared with the CPU's before use.
"""

from __future__ import annotations

import math
import sys
from typing import Literal, NamedTuple

import numpy as np

from edgead.kernels.banded_filters import Band

MAX_SIDE = 65_535  # row sums stay below 2^24, exact in float32
# Parts of a pixel narrower than this are ignored by OpenCV's area resize.
_NARROWEST = 1e-3
_LINEAR_UNITS = np.float32(2048)

Method = Literal["shrink", "area", "linear"]


class Resize(NamedTuple):
    """Resize of an image: the kind of sum and rounding, and the bands of its rows and columns.

    Bands of `linear` refer to a source whose outermost rows and columns are duplicated.
    """

    sums: Literal["shrink", "blocks", "area", "linear"]
    vertical: Band
    horizontal: Band


def resize_bands(method: Method, shape: tuple[int, int], size: tuple[int, int]) -> Resize:
    """Prepare the bands of a resize.

    Parameters
    ----------
    method : str
        "shrink" is `edgead.kernels.shrink`, the others are OpenCV's INTER_AREA, for axes that do not grow, and
        INTER_LINEAR.
    shape, size : (int, int)
        Heights and widths of source and result.

    Raises
    ------
    ValueError
        If a side has more than 65535 pixels.
    """
    if max(*shape, *size) > MAX_SIDE:
        raise ValueError(f"images of at most {MAX_SIDE} pixels a side are resized there, found {shape} to {size}")
    axes = list(zip(shape, size, strict=True))
    if method == "linear":
        return Resize("linear", _linear_band(*axes[0], clamped=False), _linear_band(*axes[1], clamped=True))
    if method == "shrink":
        return Resize("shrink", *(_shrink_band(*axis) for axis in axes))
    if all(abs(_scale(*axis) - round(_scale(*axis))) < sys.float_info.epsilon for axis in axes):
        return Resize("blocks", *(_block_band(*axis) for axis in axes))
    return Resize("area", *(_area_band(*axis) for axis in axes))


def _shrink_band(inputs: int, outputs: int) -> Band:
    """Band of `shrink`: overlaps of source and output pixels, in the unit that makes all lengths integers."""
    common = math.gcd(inputs, outputs)
    source, output = outputs // common, inputs // common
    begin = output * np.arange(outputs)[:, None]
    first = begin[:, 0] // source
    cell = (first[:, None] + np.arange(-(-output // source) + 1)) * source
    covered = np.minimum(begin + output, cell + source) - np.maximum(begin, cell)
    return _band(first, np.maximum(covered, 0), inputs)


def _block_band(inputs: int, outputs: int) -> Band:
    side = inputs // outputs
    return _band(np.arange(outputs) * side, np.ones((outputs, side)), inputs)


def _area_band(inputs: int, outputs: int) -> Band:
    scale = _scale(inputs, outputs)
    begin = np.arange(outputs) * scale
    end = begin + scale
    cell = np.minimum(scale, inputs - begin)
    last = np.minimum(np.floor(end), inputs - 1)
    whole = np.minimum(np.ceil(begin), last)
    first = whole - (whole - begin > _NARROWEST)
    behind = np.where(end - last > _NARROWEST, np.minimum(np.minimum(end - last, 1), cell) / cell, 0)
    source = first[:, None] + np.arange(math.ceil(scale) + 2)
    weights = np.select(
        [source < whole[:, None], source < last[:, None], source == last[:, None]],
        [((whole - begin) / cell)[:, None], (1 / cell)[:, None], behind[:, None]],
    )
    return _band(first, weights, inputs)


def _linear_band(inputs: int, outputs: int, *, clamped: bool) -> Band:
    """Band of two neighbours; beyond the edge it is the outermost pixel alone if `clamped`, else that pixel twice."""
    place = ((np.arange(outputs) + 0.5) * _scale(inputs, outputs) - 0.5).astype(np.float32)
    first = np.floor(place)
    share = place - first
    if clamped:
        share[(first < 0) | (first >= inputs - 1)] = 0
        first = np.clip(first, 0, inputs - 1)
    weights = np.rint(np.stack([np.float32(1) - share, share], axis=1) * _LINEAR_UNITS)
    return _band(first + 1, weights, inputs + 2)


def _scale(inputs: int, outputs: int) -> float:
    """Scale of an axis, with OpenCV's number formats and rounding."""
    return 1 / (outputs / inputs)


def _band(first: np.ndarray, weights: np.ndarray, inputs: int) -> Band:
    return Band(first.astype(np.int32), weights.astype(np.float64), inputs)
