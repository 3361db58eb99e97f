"""Nearest patches: the distance of every patch to a memory bank of normal patches.

The search scans 8-bit codes of every row and measures the few rows that can still be nearest. The codes may hold all
columns, or the first principal directions of the bank: fewer numbers to scan, but more rows to measure. Any choice
gives the same result; `choose_projection` makes it once, when the bank is prepared, by leaving out rows of the bank
and counting how many of the others would remain.
"""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

from edgead.kernels import numpy_backend
from edgead.kernels.backend import Floats, as_floats, check_finite, resolve

MIN_ROWS = 256  # in smaller banks the pre-scan costs more than it saves
MIN_ROWS_TO_PROJECT = 2048
MAX_COLUMNS = 4096
SAMPLE = 8192  # rows from which the principal directions are computed
PROBES = 128  # rows that are left out as test patches
STEP = 16  # step between candidate numbers of directions
CACHE = 16 << 20  # size of the CPU cache in bytes
FLAT = 1.02  # work within this factor counts as least: more directions hardly slow k = 1 and save a lot for k = 9
MAX_K = 16


def choose_projection(bank: Floats) -> Floats | None:
    """Choose the directions onto which the codes of a bank are projected.

    Parameters
    ----------
    bank : ndarray of shape (m, d), float32

    Returns
    -------
    ndarray of shape (p, d), float32, or None
        Orthonormal rows. p = 0 means a pre-scan of all columns unprojected, None no pre-scan.
    """
    rows, columns = bank.shape
    if rows < MIN_ROWS or columns > MAX_COLUMNS:
        return None
    all_columns = np.empty((0, columns), np.float32)
    centred, scale = _centre(bank)
    if rows < MIN_ROWS_TO_PROJECT or columns < 2 * STEP or scale == 0:
        return all_columns
    sample = centred[:: -(-rows // SAMPLE)]
    variance, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    if not np.isfinite(variance).all():
        return all_columns
    directions = directions[:, ::-1].astype(np.float32)
    count = _cheapest(centred @ directions)
    if count == 0:
        return all_columns
    # Rotated at random, so that no direction needs a far larger code step than another.
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((count, count)))
    return np.ascontiguousarray((directions[:, :count].astype(np.float64) @ turn).T, dtype=np.float32)


def _centre(bank: Floats) -> tuple[Floats, float]:
    """Shift the mean to 0 and scale the largest value to 1; return the largest value too."""
    centred = bank - bank.mean(axis=0, dtype=np.float64)
    scale = float(np.abs(centred).max())
    return (centred / (scale or 1.0)).astype(np.float32), scale


def _cheapest(turned: Floats) -> int:
    """Find the number of principal directions with the least work per pair, 0 for all columns; `turned` is rotated."""
    rows, columns = turned.shape
    probes = np.linspace(0, rows - 1, PROBES).astype(np.intp)
    squared_norms = np.einsum("ij,ij->i", turned, turned)
    # Work in units of 8-bit products; a float32 product costs four. Measuring a pair again costs about a thousand, and
    # twice that if the rows are not in the cache.
    look, project = (1000 + 6.5 * columns) * (1 + min(1.0, rows * columns / CACHE)), 4 * columns / rows
    nearest = _squared_distances(turned[probes] @ turned.T, squared_norms, probes)
    np.put_along_axis(nearest, probes[:, None], np.inf, axis=1)
    # Patches of a new image are farther from the bank than most rows, whose nearest is often of the same image. But
    # rows of a greedy coreset are about equally far apart, and patches are nearer to a row than rows to each other.
    near, far = np.sqrt(np.quantile(nearest.min(axis=1), [0.1, 0.9]))
    reach = 0.93 * far if near > 0.8 * far else far
    works = {0: float(columns)}
    seen, products = np.zeros(rows, np.float32), np.zeros((PROBES, rows), np.float32)
    for count in range(STEP, columns // 2 + 1, STEP):
        part = turned[:, count - STEP : count]
        seen += np.einsum("ij,ij->i", part, part)
        products += part[probes] @ part.T
        unseen = np.sqrt(np.maximum(squared_norms - seen, 0))
        # The error of a rotated row's codes is about a hundredth of its length, for patch and row.
        off = 0.022 * np.sqrt(seen.mean())
        distance = np.sqrt(_squared_distances(products, seen, probes))
        bound = np.maximum(distance - off, 0) ** 2 + (unseen[probes, None] - unseen) ** 2
        works[count] = count * (1 + project) + look * float(np.mean(bound <= reach**2))
    cheapest = min(works, key=works.__getitem__)
    if cheapest == 0:
        return 0
    return max(count for count, work in works.items() if count and work <= FLAT * works[cheapest])


def _squared_distances(products: Floats, squared_norms: Floats, probes: np.ndarray) -> Floats:
    return np.maximum(squared_norms[probes, None] + squared_norms - 2 * products, 0)


class NearestPatches:
    """Exact nearest rows of a memory bank.

    Parameters
    ----------
    memory_bank : ndarray of shape (m, d), float32, C order
        Coreset of normal patches; m >= 1, d >= 1. It is not copied: do not write to it afterwards.
    backend : str, optional
        "auto", "cpu", "numpy", "cuda", or "cpu:" and an instruction set level.
    prescan : bool, optional
        On the CPU, scan 8-bit codes first, if the level has kernels for it. False: float32 products of every patch
        with every row. The result is the same.
    like : NearestPatches, optional
        Search in a similar bank with the same columns, whose directions are reused instead of chosen.

    Raises
    ------
    ValueError
        If the bank is empty or holds NaN or Inf, or the backend is not available.
    TypeError
        If the bank is not float32.

    Notes
    -----
    A scan in low precision (8-bit codes on the CPU, half floats on the GPU), or float32 products if that leaves too
    many rows, selects the rows that can be nearest; its error is bounded. Those rows are measured in float64 by
    differences. A distance is therefore the float64 distance rounded to float32, for any finite input. `search` may
    be called from several threads at once.
    """

    def __init__(
        self, memory_bank: Floats, *, backend: str = "auto", prescan: bool = True, like: NearestPatches | None = None
    ) -> None:
        bank = as_floats(memory_bank, "memory_bank", "(m, d)")
        if bank.size == 0:
            raise ValueError(f"memory_bank must hold at least one row and one column, found shape {bank.shape}")
        native, level = resolve(backend)
        self.shape: tuple[int, int] = bank.shape  # type: ignore[assignment]
        self._projection: Floats | None = None
        if native and level == "cuda":
            self.backend, self._index = "cuda", native.NearestIndex(bank)
            return
        self.backend = f"cpu:{level}" if native else "numpy"
        check_finite(bank, "memory_bank")
        if native:
            if prescan and native.has_prescan(level):
                self._projection = choose_projection(bank) if like is None else like._projection
            self._index = native.NearestIndex(bank, level, self._projection)
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
