"""Smoothing of patch scores into a full-size anomaly map, and plain Gaussian blur."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import get_args

import numpy as np

from edgead.kernels import numpy_backend
from edgead.kernels.backend import Floats, as_floats, resolve
from edgead.kernels.banded_filters import Band, Border, blur_filter, blur_pays, smoothing_band

# Wider kernels than this have no use on a map and would need much memory to prepare.
MAX_SIGMA = 1000.0


class Smoother:
    """Operator of bilinear resize, Gaussian and maximum, prepared for one shape.

    Both steps are linear and separable, so the map is A S B^T with two banded matrices, computed once. Without a
    resize, native code adds the two sides of the Gaussian before it multiplies.

    Parameters
    ----------
    input_shape : tuple of int
        (h, w) of the patch scores.
    size : tuple of int
        (H, W) of the anomaly map.
    sigma : float
        Sigma of the Gaussian in pixels of the anomaly map, truncated at ceil(4 sigma) and normalised; 0 for none.
    border : {"reflect", "replicate"}, optional
        Padding beyond the anomaly map's edge: its mirror image with the edge pixel repeated, or the edge pixel.
    backend : str, optional
        "auto", "cpu", "numpy", "cuda", or "cpu:" and an instruction set level.

    Notes
    -----
    Weights are computed in float64 and applied in float32. The resize has half-pixel centres, clamps at the
    edges and does no antialiasing: cv2.INTER_LINEAR, or torch's bilinear with align_corners=False.
    """

    def __init__(
        self,
        input_shape: tuple[int, int],
        size: tuple[int, int],
        sigma: float,
        border: Border = "reflect",
        *,
        backend: str = "auto",
    ) -> None:
        self.input_shape, self.size = _shape(input_shape, "input_shape"), _shape(size, "size")
        sigma = _check(sigma, border)
        native, level = resolve(backend)
        on_cpu = native if level != "cuda" else None
        self.backend = f"cpu:{level}" if on_cpu else level or "numpy"
        self._apply: Callable[[Floats, Floats], float]
        if on_cpu and self.input_shape == self.size and blur_pays(self.size, sigma):
            self._apply = on_cpu.Blur(*blur_filter(self.size, sigma, border), level)
            return
        vertical, horizontal = smoothing_bands(self.input_shape, self.size, sigma, border)
        if native:
            self._apply = native.Smoother(
                vertical.first, vertical.weights.astype(np.float32), vertical.inputs,
                horizontal.first, horizontal.weights.astype(np.float32), horizontal.inputs,
                *((level,) if on_cpu else ()),
            )  # fmt: skip
        else:
            self._apply = numpy_backend.Smoother(vertical, horizontal)

    def __call__(self, patch_scores: Floats, out: Floats | None = None) -> tuple[Floats, float]:
        """Smooth one map.

        Parameters
        ----------
        patch_scores : ndarray of shape (h, w), float32, C order
        out : ndarray of shape (H, W), float32, C order, optional
            Array for the map; the frame loop passes the same one every time. Must not share memory with the input.

        Returns
        -------
        anomaly_map : ndarray of shape (H, W), float32
            `out`, or a new array. Never clamped.
        maximum : float
            Its largest value.

        Raises
        ------
        ValueError
            If a shape does not fit, or `patch_scores` holds NaN or Inf, or values beyond 2^126 whose sum is Inf.
        """
        patch_scores = as_floats(patch_scores, "patch_scores", "(h, w)")
        if patch_scores.shape != self.input_shape:
            raise ValueError(f"patch_scores must have shape {self.input_shape}, found {patch_scores.shape}")
        if out is None:
            out = np.empty(self.size, np.float32)
        elif as_floats(out, "out", "(H, W)").shape != self.size or not out.flags.writeable:
            raise ValueError(f"out must be a writeable array of shape {self.size}, found {out.shape}")
        return out, self._apply(patch_scores, out)


def smooth(
    patch_scores: Floats,
    size: tuple[int, int],
    sigma: float,
    *,
    border: Border = "reflect",
    backend: str = "auto",
) -> tuple[Floats, float]:
    """Resize patch scores to `size`, blur them, and take the maximum; see `Smoother` for parameters and result."""
    shape = as_floats(patch_scores, "patch_scores", "(h, w)").shape
    return _prepared(shape, tuple(size), float(sigma), border, backend)(patch_scores)


def gaussian_blur(image: Floats, sigma: float, *, border: Border = "reflect", backend: str = "auto") -> Floats:
    """Blur a map with a Gaussian that is truncated at ceil(4 sigma) and normalised.

    Parameters
    ----------
    image : ndarray of shape (H, W), float32, C order
    sigma : float
        Sigma in pixels; 0 returns a copy.
    border : {"reflect", "replicate"}, optional
        As in `Smoother`.
    backend : str, optional
        As in `Smoother`.

    Returns
    -------
    ndarray of shape (H, W), float32
    """
    shape = as_floats(image, "image", "(H, W)").shape
    return _prepared(shape, shape, float(sigma), border, backend)(image)[0]


@lru_cache(maxsize=32)
def _prepared(
    input_shape: tuple[int, int], size: tuple[int, int], sigma: float, border: Border, backend: str
) -> Smoother:
    return Smoother(input_shape, size, sigma, border, backend=backend)


def smoothing_bands(
    input_shape: tuple[int, int], size: tuple[int, int], sigma: float, border: Border
) -> tuple[Band, Band]:
    """Build the vertical and the horizontal operator of a `Smoother`."""
    sigma = _check(sigma, border)
    (height, width), (inputs_high, inputs_wide) = _shape(size, "size"), _shape(input_shape, "input_shape")
    return smoothing_band(inputs_high, height, sigma, border), smoothing_band(inputs_wide, width, sigma, border)


def _check(sigma: float, border: Border) -> float:
    sigma = float(sigma)
    if not (math.isfinite(sigma) and 0 <= sigma <= MAX_SIGMA):
        raise ValueError(f"sigma must be from 0 to {MAX_SIGMA:g} pixels, found {sigma}")
    if border not in get_args(Border):
        raise ValueError(f"border must be one of {', '.join(get_args(Border))}, found {border!r}")
    return sigma


def _shape(shape: tuple[int, int], name: str) -> tuple[int, int]:
    height, width = (int(n) for n in shape)
    if height < 1 or width < 1:
        raise ValueError(f"{name} must be (height, width) of at least 1 pixel, found {tuple(shape)}")
    return height, width
