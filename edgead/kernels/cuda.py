"""Nearest patches, smoothing and resizing for arrays that are on the GPU, such as a TensorRT engine's output.

Arrays are passed as device addresses, integers as in torch's `data_ptr()`: C order, float32, int32 and uint8.
Calls enqueue their work in a stream (the address of a cudaStream_t, 0 for the default one) and return at once; results
are ready when the stream has run it. Work memory grows with the largest call so far, which waits for earlier calls;
`reserve` does that beforehand, and must precede the capture of a call into a CUDA graph. Calls of one object in
several streams are safe and take turns on the device; a graph that contains one must not run beside other calls of
that object. A destroyed object waits for its own calls, except those in graphs.

Needs the backend "cuda" (edgead.kernels.backends()).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgead.kernels.backend import Floats, as_floats, load_cuda
from edgead.kernels.banded_filters import Band, Border
from edgead.kernels.maps import smoothing_bands
from edgead.kernels.nearest import MAX_K
from edgead.kernels.resize_bands import Resize


@dataclass(frozen=True)
class Neighbours:
    """Device addresses of a search's results.

    `distance` float32 and `index` int32, (n, k) each, as in `edgead.kernels.NearestPatches.search`, but a patch with
    NaN or Inf gets distance NaN and index -1. `bad_row`, if not 0, is one int32: the first such patch, or -1.
    """

    distance: int
    index: int
    bad_row: int = 0


class NearestPatches:
    """Exact nearest rows of a memory bank, for features on the GPU.

    Parameters
    ----------
    memory_bank : ndarray of shape (m, d), float32, C order
        Bank in host memory; it is copied to the current device.

    Raises
    ------
    SettingsError
        If the backend "cuda" is not available.
    ValueError
        If the bank is empty or holds NaN or Inf.
    """

    def __init__(self, memory_bank: Floats) -> None:
        bank = as_floats(memory_bank, "memory_bank", "(m, d)")
        self.shape: tuple[int, int] = bank.shape  # type: ignore[assignment]
        self._index = load_cuda().NearestIndex(bank)

    def reserve(self, rows: int) -> None:
        """Allocate the work memory of searches of up to `rows` patches."""
        self._index.reserve(operator.index(rows))

    def search(self, features: int, rows: int, k: int, target: Neighbours, stream: int = 0) -> None:
        """Find the k nearest rows of the bank for `rows` patches of d features at the device address `features`.

        Raises
        ------
        ValueError
            If k is not from 1 to 16 and at most m, or an address is 0.
        RuntimeError
            If CUDA refuses; also for what an earlier call in the stream did wrong.
        """
        if not 1 <= k <= min(MAX_K, self.shape[0]):
            raise ValueError(f"k must be from 1 to {MAX_K} and at most the bank's {self.shape[0]} rows, found {k}")
        self._index.search_device(features, rows, k, target.distance, target.index, target.bad_row, stream)


class Smoother:
    """Bilinear resize, Gaussian and maximum of a map on the GPU; see `edgead.kernels.Smoother` for the parameters."""

    def __init__(
        self, input_shape: tuple[int, int], size: tuple[int, int], sigma: float, border: Border = "reflect"
    ) -> None:
        bands = smoothing_bands(input_shape, size, sigma, border)
        self._smoother = load_cuda().Smoother(*(value for band in bands for value in _arguments(band)))

    def __call__(self, patch_scores: int, anomaly_map: int, maximum: int, stream: int = 0) -> None:
        """Smooth one map, at device addresses: (h, w) to (H, W), and its largest value to one float32.

        The maximum is NaN if `patch_scores` holds NaN or Inf: one number shows whether a frame is usable, as patches
        that are not finite have a distance that is NaN.

        Raises
        ------
        ValueError
            If an address is 0.
        RuntimeError
            If CUDA refuses; also for what an earlier call in the stream did wrong.
        """
        self._smoother.apply_device(patch_scores, anomaly_map, maximum, stream)


class Resizer:
    """Resizing of images on the GPU, bit for bit as on the CPU; the result is RGB.

    Parameters
    ----------
    steps : sequence of Resize
        Resizes to apply in turn, at least one.
    size : (int, int)
        Height and width of the target.
    corner : (int, int)
        Row and column of the target at which the last step's result begins. The rest is padded with its reflection,
        OpenCV's BORDER_REFLECT_101.
    """

    def __init__(self, steps: Sequence[Resize], size: tuple[int, int], corner: tuple[int, int] = (0, 0)) -> None:
        arguments = [
            (_SUMS.index(step.sums), *_arguments(step.vertical), *_arguments(step.horizontal)) for step in steps
        ]
        self._resizer = load_cuda().Resizer(arguments, *size, *corner)

    def __call__(self, image: int, target: int, stream: int = 0) -> None:
        """Resize one image, at device addresses: uint8 (H, W, 3) BGR to (h, w, 3) RGB.

        Raises
        ------
        ValueError
            If an address is 0.
        RuntimeError
            If CUDA refuses; also for what an earlier call in the stream did wrong.
        """
        self._resizer.apply_device(image, target, stream)


_SUMS = ("shrink", "blocks", "area", "linear")  # as in csrc/cuda/resizer.h


def _arguments(band: Band) -> tuple[np.ndarray, np.ndarray, int]:
    return band.first, band.weights.astype(np.float32), band.inputs
