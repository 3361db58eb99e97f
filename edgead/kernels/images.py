"""Shrinking of images: the exact mean of the source pixels that each pixel of the smaller image covers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgead.kernels import numpy_backend
from edgead.kernels.backend import resolve

MAX_SIDE = 1 << 20

Pixels = npt.NDArray[np.uint8]


def shrink(image: Pixels, size: tuple[int, int], out: Pixels | None = None, *, backend: str = "auto") -> Pixels:
    """Shrink an image along both axes.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
        Rows need not be adjacent in memory, as in a region of a larger image.
    size : tuple of int
        (h, w) of the result, neither larger than the image's.
    out : ndarray of shape (h, w, 3), uint8, C order, optional
        Array for the result.
    backend : str, optional
        "auto", "cpu", "numpy", or "cpu:" and an instruction set level.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        `out`, or a new array.

    Raises
    ------
    ValueError
        If a shape does not fit, an axis would grow, or has more than 2^20 pixels.
    TypeError
        If an array is not uint8.

    Notes
    -----
    The mean is computed in integers and rounded half to even: the same on every backend and machine.
    `cv2.INTER_AREA` computes it in float32, which now and then rounds a pixel to its neighbour.
    """
    _check(image, "image", "(H, W, 3)")
    if not all(1 <= now <= then <= MAX_SIDE for now, then in zip(size, image.shape, strict=False)):
        raise ValueError(
            f"an image of {image.shape[:2]} shrinks along both axes, to one pixel at least and from at most 2^20: "
            f"it cannot become {tuple(size)}"
        )
    if out is None:
        out = np.empty((*size, 3), np.uint8)
    elif _check(out, "out", "(h, w, 3)").shape[:2] != tuple(size) or not out.flags.writeable:
        raise ValueError(f"out must be a writeable array of shape {(*size, 3)}, found {out.shape}")
    native, level = resolve(backend, cuda=False)
    if image.strides[1:] != (3, 1) or image.strides[0] < 3 * image.shape[1]:
        image = np.ascontiguousarray(image)
    if native:
        native.shrink(image, out, level)
    else:
        numpy_backend.shrink(image, out)
    return out


def _check(array: Pixels, name: str, shape: str) -> Pixels:
    if array.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8, found {array.dtype}")
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"{name} must have shape {shape}, found {array.shape}")
    return array
