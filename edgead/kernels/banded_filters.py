"""Linear operators along one axis of a map: matrices with a narrow band, and the plain Gaussian."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Border = Literal["reflect", "replicate"]

# Native sliding blur: maps of at least this many pixels a side, and a multiple of so many taps on each side.
BLUR_MIN_SIZE, BLUR_TAPS = 16, 8  # Blur::min_size, blur_taps


class Band(NamedTuple):
    """Output i is the sum over t of weights[i, t] * input[first[i] + t]; weights beyond the inputs are 0."""

    first: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float64]
    inputs: int

    def dense(self) -> npt.NDArray[np.float64]:
        """Expand to the matrix of shape (outputs, inputs)."""
        outputs, taps = self.weights.shape
        matrix = np.zeros((outputs, self.inputs + taps))
        columns = self.first[:, None] + np.arange(taps)
        np.put_along_axis(matrix, columns.astype(np.intp), self.weights, axis=1)
        return matrix[:, : self.inputs]


def gaussian_taps(sigma: float) -> npt.NDArray[np.float64]:
    """Sample a Gaussian at whole pixels up to ceil(4 sigma), normalised to sum 1; sigma 0 is one tap."""
    if sigma == 0:
        return np.ones(1)
    radius = math.ceil(4 * sigma)
    with np.errstate(over="ignore"):  # for a tiny sigma exp(-inf) is correctly 0
        taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


def border_index(position: npt.NDArray[np.intp], size: int, border: Border) -> npt.NDArray[np.intp]:
    """Map positions outside [0, size) into it: "reflect" is d c b a | a b c d | d c b a, folded as often as needed."""
    if border == "replicate":
        return np.clip(position, 0, size - 1)
    folded = position % (2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


@lru_cache(maxsize=64)
def smoothing_band(inputs: int, outputs: int, sigma: float, border: Border) -> Band:
    """Build bilinear resize (half-pixel centres, clamped edges) from `inputs` to `outputs`, then a Gaussian."""
    taps = gaussian_taps(sigma)
    radius = len(taps) // 2
    # Every output pixel is a sum of 2 radius + 1 pixels of the resized line, each interpolated from two inputs.
    offsets = np.arange(-radius, radius + 1)
    pixel = border_index(np.arange(outputs)[:, None] + offsets, outputs, border)
    source = np.clip((pixel + 0.5) * (inputs / outputs) - 0.5, 0, inputs - 1)
    left = np.floor(source).astype(np.intp)
    part = source - left
    right = np.minimum(left + 1, inputs - 1)
    first = left.min(axis=1)
    width = int((right.max(axis=1) - first).max()) + 1
    weights = np.zeros((outputs, width))
    rows = np.broadcast_to(np.arange(outputs)[:, None], pixel.shape)
    np.add.at(weights, (rows, left - first[:, None]), taps * (1 - part))
    np.add.at(weights, (rows, right - first[:, None]), taps * part)
    return Band(first.astype(np.int32), weights, inputs)


def blur_pays(size: tuple[int, int], sigma: float) -> bool:
    """Whether native code blurs by sliding; maps too small for it, or for their Gaussian, use matrix products."""
    return max(BLUR_MIN_SIZE - 1, math.ceil(4 * sigma)) < min(size)


def blur_filter(
    size: tuple[int, int], sigma: float, border: Border
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Build half a Gaussian, outermost weight first, and the source indices of both axes with their borders."""
    taps = gaussian_taps(sigma)
    half = taps[: len(taps) // 2 + 1]
    radius = -(-(len(half) - 1) // BLUR_TAPS) * BLUR_TAPS  # padded with weights of 0
    weights = np.pad(half, (radius + 1 - len(half), 0)).astype(np.float32)
    rows, columns = (border_index(np.arange(-radius, n + radius), n, border).astype(np.int32) for n in size)
    return weights, rows, columns
