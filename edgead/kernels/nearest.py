"""Nearest patches: the distance of every patch to a memory bank of normal patches."""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

from edgead.kernels import numpy_backend
from edgead.kernels.backend import Floats, as_floats, check_finite, resolve
from edgead.kernels.prescan_columns import choose_projection

MAX_K = 16


class NearestPatches:
    """Exact nearest rows of a memory bank.

    Parameters
    ----------
    memory_bank : ndarray of shape (m, d), float32, C order
        Coreset of normal patches; m >= 1, d >= 1. It is kept, not copied: do not write to it afterwards.
    backend : str, optional
        "auto", "cpu", "numpy", "cuda", or "cpu:" and an instruction set level.
    prescan : bool, optional
        On the CPU: scan 8-bit codes first, where the level has kernels for it. False: float32 products of every patch
        with every row. The result is the same.

    Raises
    ------
    ValueError
        If the bank is empty or holds NaN or Inf, or the backend is not available.
    TypeError
        If the bank is not float32.

    Notes
    -----
    A scan in low precision (8-bit codes on the CPU, halves on the GPU), or float32 products where that leaves too
    much, selects the rows that can be nearest; its error is bounded. Those rows are measured in float64 by
    differences. A distance is therefore the float64 distance rounded to float32, for any finite input. `search` may
    be called from several threads at once.
    """

    def __init__(self, memory_bank: Floats, *, backend: str = "auto", prescan: bool = True) -> None:
        bank = as_floats(memory_bank, "memory_bank", "(m, d)")
        if bank.size == 0:
            raise ValueError(f"memory_bank must hold at least one row and one column, found shape {bank.shape}")
        native, level = resolve(backend)
        self.shape: tuple[int, int] = bank.shape  # type: ignore[assignment]
        if native and level == "cuda":
            self.backend, self._index = "cuda", native.NearestIndex(bank)
            return
        self.backend = f"cpu:{level}" if native else "numpy"
        check_finite(bank, "memory_bank")
        if native:
            projection = choose_projection(bank) if prescan and native.has_prescan(level) else None
            self._index = native.NearestIndex(bank, level, projection)
        else:
            self._index = numpy_backend.NearestIndex(bank)

    def search(self, features: Floats, k: int = 1) -> tuple[Floats, npt.NDArray[np.int32]]:
        """Find the k nearest rows of the bank for every patch.

        Parameters
        ----------
        features : ndarray of shape (n, d), float32, C order
            Patch features, row by row; n may be 0.
        k : int, optional
            Neighbours per patch, from 1 to 16 and at most m.

        Returns
        -------
        distance : ndarray of shape (n, k), float32
            Euclidean distances, ascending; higher is more anomalous.
        index : ndarray of shape (n, k), int32
            Rows of the bank; the lowest row comes first in a tie.

        Raises
        ------
        ValueError
            If a shape does not fit, k is out of range, or `features` holds NaN or Inf.
        """
        features = as_floats(features, "features", "(n, d)")
        rows, d = self.shape
        if features.shape[1] != d:
            raise ValueError(f"features must have the bank's d = {d} columns, found shape {features.shape}")
        k = operator.index(k)
        if not 1 <= k <= min(MAX_K, rows):
            raise ValueError(f"k must be from 1 to {MAX_K} and at most the bank's {rows} rows, found {k}")
        return self._index.search(features, k)
