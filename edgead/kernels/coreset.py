"""Greedy coreset: selection of few patches that represent all normal patches."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgead.kernels import numpy_backend
from edgead.kernels.backend import Floats, as_floats, check_finite, resolve


def greedy_coreset(
    features: Floats,
    count: int,
    *,
    first: int = 0,
    progress: Callable[[int, int], object] | None = None,
    backend: str = "auto",
) -> npt.NDArray[np.int64]:
    """Choose rows so that every row is near a chosen one (greedy k-centre).

    Parameters
    ----------
    features : ndarray of shape (n, d), float32, C order
        Patch features of all good images.
    count : int
        Rows to choose, from 1 to n.
    first : int, optional
        The row to start with.
    progress : callable, optional
        Called as progress(done, count) a few times a second and at the end; an exception in it, or Ctrl-C, stops the
        choice.
    backend : str, optional
        "auto", "cpu", "numpy", or "cpu:" and an instruction set level.

    Returns
    -------
    index : ndarray of shape (count,), int64
        Rows in the order of choice, none twice: each is the farthest from all before it, the lowest in a tie.

    Raises
    ------
    ValueError
        If a shape or number is out of range, or `features` holds NaN or Inf.

    Notes
    -----
    The picks are those of the plain greedy algorithm (Gonzalez, "Clustering to minimize the maximum
    intercluster distance", 1985) with distances in float32 by differences, so levels and backends differ only
    where two rows are equally far up to rounding.
    """
    features, count, first = *_checked(features, count), operator.index(first)
    if not 0 <= first < len(features):
        raise ValueError(f"first must be a row of features, 0 to {len(features) - 1}, found {first}")
    native, level = resolve(backend, cuda=False)
    if native:
        picks = native.greedy_coreset(features, count, first, level, progress)
    else:
        check_finite(features, "features")
        picks = numpy_backend.greedy_coreset(features, count, first, progress)
    if progress:
        progress(count, count)
    return picks


def extend_coreset(
    features: Floats,
    nearest: npt.NDArray[np.int64],
    count: int,
    *,
    progress: Callable[[int, int], object] | None = None,
    backend: str = "auto",
) -> npt.NDArray[np.int64]:
    """Choose further rows after an earlier choice, as `greedy_coreset` would continue.

    Parameters
    ----------
    features, count, progress, backend
        Parameters of `greedy_coreset`; `count` is the number of further rows.
    nearest : ndarray of shape (n,), int64
        Index of the nearest chosen row for each row: itself for a chosen row, -1 for a row that must not be chosen.

    Returns
    -------
    index : ndarray of shape (m,), int64
        Rows in the order of choice; fewer than `count` if no more can be chosen.

    Raises
    ------
    ValueError
        If a shape or number is out of range, or `features` holds NaN or Inf.
    """
    features, count = _checked(features, count)
    nearest = np.require(nearest, requirements=("C", "A"))
    if nearest.dtype != np.int64 or nearest.shape != features.shape[:1]:
        raise ValueError(f"nearest must be int64 (n,), found {nearest.dtype} {nearest.shape}")
    if nearest.min() < -1 or nearest.max() >= len(features):
        raise ValueError(f"nearest must be rows of features, or -1, found {nearest.min()} to {nearest.max()}")
    native, level = resolve(backend, cuda=False)
    if native:
        picks = native.extend_coreset(features, nearest, count, level, progress)
    else:
        check_finite(features, "features")
        picks = numpy_backend.extend_coreset(features, nearest, count, progress)
    if progress:
        progress(count, count)
    return picks


def _checked(features: Floats, count: int) -> tuple[Floats, int]:
    features, count = as_floats(features, "features", "(n, d)"), operator.index(count)
    if features.size == 0:
        raise ValueError(f"features must hold at least one row and one column, found shape {features.shape}")
    if not 1 <= count <= len(features):
        raise ValueError(f"count must be from 1 to the {len(features)} rows of features, found {count}")
    return features, count
