"""Nearest patches of golden parts within a window around each patch's place."""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

from edgead.kernels import numpy_backend
from edgead.kernels.backend import Floats, as_floats, check_finite, resolve

MAX_REACH = 16


class WindowSearch:
    """Exact nearest patches of golden parts, within a window around each place.

    Parameters
    ----------
    parts : ndarray of shape (g, h, w, d), float32, C order
        Patches of g golden parts on one grid. They are not copied: do not write to them afterwards.
    reach : int
        Rows and columns of the window on each side of its middle, from 0 to 16.
    backend : str, optional
        "auto", "cpu", "numpy", or "cpu:" and an instruction set level.

    Raises
    ------
    ValueError
        If a shape or number is out of range, `parts` holds NaN or Inf, or the backend is not available.
    TypeError
        If `parts` are not float32.

    Notes
    -----
    A distance is the float64 distance by differences, rounded to float32.
    """

    def __init__(self, parts: Floats, reach: int, *, backend: str = "auto") -> None:
        parts = as_floats(parts, "parts", "(g, h, w, d)")
        if parts.size == 0:
            raise ValueError(f"parts must hold at least one patch, found shape {parts.shape}")
        reach = operator.index(reach)
        if not 0 <= reach <= MAX_REACH:
            raise ValueError(f"reach must be from 0 to {MAX_REACH}, found {reach}")
        check_finite(parts.reshape(-1, parts.shape[-1]), "parts")
        native, level = resolve(backend, cuda=False)
        self.shape = parts.shape
        self.backend = f"cpu:{level}" if native else "numpy"
        self._search = native.WindowSearch(parts, reach, level) if native else numpy_backend.WindowSearch(parts, reach)

    def search(self, features: Floats, places: npt.NDArray[np.int32]) -> tuple[Floats, Floats]:
        """Compare patches with the golden ones around their places, in both directions.

        Parameters
        ----------
        features : ndarray of shape (n, d), float32, C order
        places : ndarray of shape (n, 2), int32, C order
            Row and column of each patch in the grid.

        Returns
        -------
        there : ndarray of shape (n,), float32
            Euclidean distance of each patch to the nearest one of any golden part in the window around its place.
        back : ndarray of shape (n,), float32
            Euclidean distance of the golden patch at its place to the nearest patch with this place in its window; the
            least over the golden parts.

        Raises
        ------
        ValueError
            If a shape does not fit, a place is outside the grid, or `features` holds NaN or Inf.
        """
        features = as_floats(features, "features", "(n, d)")
        _, height, width, d = self.shape
        if features.shape[1] != d:
            raise ValueError(f"features must have the golden parts' d = {d} columns, found shape {features.shape}")
        if places.shape != (len(features), 2) or places.dtype != np.int32:
            raise ValueError(f"places must be int32 ({len(features)}, 2), found {places.dtype} {places.shape}")
        if places.size and (places.min() < 0 or (places.max(axis=0) >= (height, width)).any()):
            raise ValueError(f"a place is outside the grid of {height} x {width} patches")
        check_finite(features, "features")
        return self._search.search(features, np.require(places, requirements=("C", "A")))
