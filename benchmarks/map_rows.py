"""Rows of the maps: patch scores to a smooth full-size map with its maximum, and plain Gaussian blur."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from benchmarks.features import Array
from benchmarks.interleave import interleave
from benchmarks.results import OURS, Row, Target
from edgead import kernels

SIGMA = 4.0
RADIUS = 16  # of all contenders: ceil(4 sigma)
TOLERANCE = 1e-5  # of the largest value; 33 x 33 float32 products and sums stay well below

# (patches, pixels) a side, target; the first is the product's, the others show how it goes on.
FUSED = ((28, 256, Target("cv2", 15, 25)), (56, 256, None), (64, 1024, None))
BLURS = ((256, Target("cv2", 4.5, 8)), (512, Target("cv2", 5, 8)), (1024, Target("cv2", 2, 4)))


def map_rows(patch_scores: Array, rounds: int) -> Iterator[Row]:
    """Verify and time maps made of real patch scores (h, w)."""
    for patches, pixels, target in FUSED:
        scores = cv2.resize(patch_scores, (patches, patches))
        work = f"smooth {patches} -> {pixels}, sigma {SIGMA:g}, with its maximum"
        calls = _fused_calls(scores, pixels)
        truth = _smooth_truth(scores, pixels)
        _verify(work, {name: call()[0] for name, call in calls.items()}, truth)
        _verify(f"{work} (maximum)", {name: np.array(call()[1]) for name, call in calls.items()}, truth.max())
        yield Row("maps", work, interleave(calls, rounds), (target,) if target else ())
    for pixels, target in BLURS:
        image = cv2.resize(patch_scores, (pixels, pixels))
        work = f"Gaussian blur {pixels} x {pixels}, sigma {SIGMA:g}"
        calls = _blur_calls(image)
        _verify(work, {name: call() for name, call in calls.items()}, _blur_truth(image.astype(np.float64)))
        yield Row("maps", work, interleave(calls, rounds), (target,))


def _fused_calls(scores: Array, pixels: int) -> dict[str, Callable[[], tuple[Array, float]]]:
    """Each writes into an array of its own, as a frame loop does."""
    ours, theirs, resized, scipys = (np.empty((pixels, pixels), np.float32) for _ in range(4))
    smoother = kernels.Smoother(scores.shape, (pixels, pixels), SIGMA)

    def with_cv2() -> tuple[Array, float]:
        cv2.resize(scores, (pixels, pixels), dst=resized, interpolation=cv2.INTER_LINEAR)
        cv2.GaussianBlur(resized, (0, 0), SIGMA, dst=theirs, borderType=cv2.BORDER_REFLECT)
        return theirs, float(theirs.max())

    def with_scipy() -> tuple[Array, float]:
        cv2.resize(scores, (pixels, pixels), dst=resized, interpolation=cv2.INTER_LINEAR)
        ndimage.gaussian_filter(resized, SIGMA, output=scipys, mode="reflect", radius=RADIUS)
        return scipys, float(scipys.max())

    return {OURS: lambda: smoother(scores, ours), "cv2": with_cv2, "cv2 + scipy": with_scipy}


def _blur_calls(image: Array) -> dict[str, Callable[[], Array]]:
    """Each gives a new array."""
    return {
        OURS: lambda: kernels.gaussian_blur(image, SIGMA),
        "cv2": lambda: cv2.GaussianBlur(image, (0, 0), SIGMA, borderType=cv2.BORDER_REFLECT),
        "scipy": lambda: ndimage.gaussian_filter(image, SIGMA, mode="reflect", radius=RADIUS),
    }


def _smooth_truth(scores: Array, pixels: int) -> np.ndarray:
    exact = torch.from_numpy(scores.astype(np.float64))[None, None]
    large = F.interpolate(exact, size=(pixels, pixels), mode="bilinear", align_corners=False)
    return _blur_truth(large[0, 0].numpy())


def _blur_truth(image: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(image, SIGMA, mode="reflect", radius=RADIUS)


def _verify(work: str, found: Mapping[str, np.ndarray], truth: np.ndarray) -> None:
    for name, values in found.items():
        error = float(np.abs(values - truth).max() / np.abs(truth).max())
        if error > TOLERANCE:
            raise SystemExit(f"{work}: {name} is off by {error:.2g} of the largest value; nothing wrong is timed")
