"""Nearest patches in each of several groups, such as the distance of every patch to every other image of a set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgead.kernels import numpy_backend
from edgead.kernels.backend import Floats, as_floats, check_finite, resolve


class GroupedPatches:
    """Exact distance to the nearest row of each group of a joint memory bank.

    Parameters
    ----------
    memory_bank : ndarray of shape (m, d), float32, C order
        Rows of all groups in turn, such as the patches of each image.
    sizes : sequence of int
        Number of rows in each group, at least one; they add up to m.
    backend : str, optional
        "auto", "cpu", "numpy", "cuda", or "cpu:" and an instruction set level.
    prescan : bool, optional
        See `NearestPatches`; the result is the same.

    Raises
    ------
    ValueError
        If the bank is empty or holds NaN or Inf, a group is empty, the groups do not add up to the bank, or the
        backend is not available.
    TypeError
        If the bank is not float32.

    Notes
    -----
    This is the search of `NearestPatches`, group by group, but the groups share the preparation of patches and bank.
    `search` may be called from several threads at once.
    """

    def __init__(
        self, memory_bank: Floats, sizes: Sequence[int], *, backend: str = "auto", prescan: bool = True
    ) -> None:
        bank = as_floats(memory_bank, "memory_bank", "(m, d)")
        counts = _check_sizes(bank, sizes)
        native, level = resolve(backend)
        self.dimension, self.groups = bank.shape[1], len(counts)
        self.backend = level if level == "cuda" else f"cpu:{level}" if native else "numpy"
        check_finite(bank, "memory_bank")
        if native is None:
            self._index = numpy_backend.GroupedIndex(bank, counts)
            return
        arguments = () if level == "cuda" else (level,)
        filled, counts = _fill_up(bank, counts, native.group_rows(*arguments))
        self._index = native.GroupedIndex(filled, counts.tolist(), *arguments, *((prescan,) if arguments else ()))

    def search(self, features: Floats) -> Floats:
        """Find the nearest row of each group for every patch.

        Parameters
        ----------
        features : ndarray of shape (n, d), float32, C order
            Patch features, row by row; n may be 0.

        Returns
        -------
        distance : ndarray of shape (n, groups), float32
            Euclidean distances: float64 ones rounded to float32, for any finite input.

        Raises
        ------
        ValueError
            If a shape does not fit, or `features` holds NaN or Inf.
        """
        features = as_floats(features, "features", "(n, d)")
        if features.shape[1] != self.dimension:
            raise ValueError(f"features must have the bank's d = {self.dimension} columns, found {features.shape}")
        return self._index.search(features)


def _check_sizes(bank: Floats, sizes: Sequence[int]) -> np.ndarray:
    counts = np.asarray(sizes)
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or not len(counts):
        raise ValueError(f"sizes must be a sequence of whole numbers, one for each group, found {sizes!r}")
    if counts.min() < 1:
        raise ValueError(f"group {int(np.argmax(counts < 1))} is empty: each must hold at least one row")
    if bank.shape[1] == 0:
        raise ValueError(f"memory_bank must hold at least one column, found shape {bank.shape}")
    if counts.sum() != len(bank):
        raise ValueError(f"the groups hold {counts.sum()} rows, memory_bank {len(bank)}: the sizes must add up to it")
    return counts


def _fill_up(bank: Floats, counts: np.ndarray, multiple: int) -> tuple[Floats, np.ndarray]:
    """Pad each group with copies of its last row to whole panels of the native search, which changes no minimum."""
    filled = -(-counts // multiple) * multiple
    last = np.cumsum(counts) - 1
    first_of_filled = np.cumsum(filled) - filled
    place = np.arange(filled.sum()) - np.repeat(first_of_filled, filled)
    rows = np.minimum(np.repeat(last - counts + 1, filled) + place, np.repeat(last, filled))
    return bank[rows], filled
