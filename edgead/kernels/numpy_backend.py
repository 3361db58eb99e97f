"""Kernels in numpy, for platforms without native code: the same results, more slowly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from edgead.kernels.backend import Floats, check_finite
from edgead.kernels.banded_filters import Band

# Number of floats in the largest temporary array.
CHUNK = 1 << 22


class NearestIndex:
    """Nearest rows in numpy: candidates by float64 products, measured by float64 differences."""

    def __init__(self, bank: Floats) -> None:
        self._bank = bank
        self._mean = bank.mean(axis=0, dtype=np.float64)
        self._centred = bank - self._mean
        self._half_norms = np.einsum("ij,ij->i", self._centred, self._centred) / 2

    def search(self, features: Floats, k: int) -> tuple[Floats, npt.NDArray[np.int32]]:
        check_finite(features, "features")
        distance = np.empty((len(features), k), np.float32)
        index = np.empty((len(features), k), np.int32)
        for begin in range(0, len(features), step := max(1, CHUNK // len(self._bank))):
            part = slice(begin, begin + step)
            self._search_part(features[part], k, distance[part], index[part])
        return distance, index

    def _search_part(self, features: Floats, k: int, distance: Floats, index: npt.NDArray[np.int32]) -> None:
        queries = features - self._mean
        scores = self._half_norms - queries @ self._centred.T
        # The error of a score is at most gamma_(d + 4) |b| (|q| + |b|), gamma_n = n 2^-53 / (1 - n 2^-53) (Higham): d
        # roundings in the product and in the norm, one each in both differences and at the end. Doubled for margin.
        d = features.shape[1]
        norm = np.sqrt(2 * self._half_norms.max())
        error = 2 * (d + 4) * 2.0**-53 * norm * (np.linalg.norm(queries, axis=1) + norm)
        reach = np.partition(scores, k - 1, axis=1)[:, k - 1] + 2 * error
        for row, (feature, candidates) in enumerate(zip(features, scores <= reach[:, None], strict=True)):
            rows = np.flatnonzero(candidates)
            differences = self._bank[rows].astype(np.float64) - feature
            squared = np.einsum("ij,ij->i", differences, differences)
            nearest = np.argsort(squared, kind="stable")[:k]
            index[row] = rows[nearest]
            with np.errstate(over="ignore"):  # a distance beyond float32 is infinite, as in native code
                distance[row] = np.sqrt(squared[nearest])


class GroupedIndex:
    """Nearest rows by group in numpy: one search for each group."""

    def __init__(self, bank: Floats, sizes: npt.NDArray[np.int64]) -> None:
        self._indexes = [NearestIndex(rows) for rows in np.split(bank, np.cumsum(sizes)[:-1])]

    def search(self, features: Floats) -> Floats:
        return np.concatenate([index.search(features, 1)[0] for index in self._indexes], axis=1)


class Smoother:
    """Smoothing in numpy: two matrix products."""

    def __init__(self, vertical: Band, horizontal: Band) -> None:
        self._vertical = vertical.dense().astype(np.float32)
        self._horizontal = np.ascontiguousarray(horizontal.dense().T.astype(np.float32))

    def __call__(self, patch_scores: Floats, out: Floats) -> float:
        check_finite(patch_scores, "the map")
        np.matmul(self._vertical @ patch_scores, self._horizontal, out=out)
        return float(out.max())


def greedy_coreset(
    features: Floats, count: int, first: int, progress: Callable[[int, int], object] | None
) -> npt.NDArray[np.int64]:
    """Greedy coreset in numpy: measure every row against every pick."""
    bound = np.full(len(features), np.inf, np.float32)
    return _pick(_in_range(features), bound, first, count, progress)


def extend_coreset(
    features: Floats, nearest: npt.NDArray[np.int64], count: int, progress: Callable[[int, int], object] | None
) -> npt.NDArray[np.int64]:
    """Greedy coreset continued, from each row's distance to the nearest row chosen before."""
    features = _in_range(features)
    bound = np.concatenate(
        [_squared(features[rows], features[nearest[rows]]) for rows in _blocks(features)]  # -1 is excluded below
    )
    bound[(nearest < 0) | (nearest == np.arange(len(features)))] = -1
    return _pick(features, bound, int(np.argmax(bound)), count, progress)


def _pick(
    features: Floats, bound: Floats, pick: int, count: int, progress: Callable[[int, int], object] | None
) -> npt.NDArray[np.int64]:
    picks, next_report = np.empty(count, np.int64), time.monotonic() + 0.2
    for done in range(count):
        if bound[pick] < 0:
            return picks[:done]
        picks[done] = pick
        for rows in _blocks(features):
            np.minimum(bound[rows], _squared(features[rows], features[pick]), out=bound[rows])
        bound[pick] = -1
        pick = int(np.argmax(bound))
        if progress and time.monotonic() >= next_report:
            progress(done + 1, count)
            next_report = time.monotonic() + 0.2
    return picks


def _blocks(features: Floats) -> Iterator[slice]:
    step = max(1, CHUNK // features.shape[1])
    return (slice(begin, begin + step) for begin in range(0, len(features), step))


def _squared(rows: Floats, others: Floats) -> Floats:
    difference = rows - others
    return np.einsum("ij,ij->i", difference, difference)


def _in_range(features: Floats) -> Floats:
    """Scale by a power of two, which changes no digit, so that squares in float32 neither overflow nor vanish."""
    exponent = np.frexp(np.abs(features).max())[1]
    return features if -30 < exponent < 50 else np.ldexp(features, -exponent)


class WindowSearch:
    """Window search in numpy: all patches at once, for each offset in the window."""

    def __init__(self, parts: Floats, reach: int) -> None:
        count, _, _, d = parts.shape
        around = (reach, reach)
        # Parts are padded with infinity, so that a window's places outside of the grid are never the nearest.
        padded = np.pad(parts, ((0, 0), around, around, (0, 0)), constant_values=np.inf)
        self._width = padded.shape[2]
        self._parts = padded.reshape(count, -1, d)
        steps = np.arange(2 * reach + 1)
        self._steps = (self._width * steps[:, None] + steps).ravel()

    def search(self, features: Floats, places: npt.NDArray[np.int32]) -> tuple[Floats, Floats]:
        corners = places @ np.array([self._width, 1])  # corners of the windows in the padded parts
        there = np.full(len(features), np.inf)
        back = np.full(self._parts.shape[1], np.inf)
        for part in self._parts:
            for step in self._steps:
                differences = part[corners + step].astype(np.float64) - features
                squared = np.einsum("ij,ij->i", differences, differences)
                np.minimum(there, squared, out=there)
                np.minimum.at(back, corners + step, squared)
        back = back[corners + self._steps[len(self._steps) // 2]]
        return np.sqrt(there).astype(np.float32), np.sqrt(back).astype(np.float32)


def shrink(image: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> None:
    """Shrink in numpy: sum the covered cells along one axis, then the other, and divide once."""
    rows, units_of_rows = _covered(image, len(out))
    columns, units_of_columns = _covered(rows.swapaxes(0, 1), out.shape[1])
    whole, rest = np.divmod(columns.swapaxes(0, 1), units_of_rows * units_of_columns)
    twice = 2 * rest - units_of_rows * units_of_columns
    out[...] = whole + ((twice > 0) | ((twice == 0) & (whole % 2 == 1)))


def _covered(cells: npt.NDArray[np.integer], count: int) -> tuple[npt.NDArray[np.int64], int]:
    """Sum the rows that each of `count` output rows covers, with integer weights; return the total weight too."""
    common = math.gcd(len(cells), count)
    source, target = count // common, len(cells) // common  # length of a source row and of an output row
    sums = np.empty((count, *cells.shape[1:]), np.int64)
    for i in range(count):
        begin, end = i * target, (i + 1) * target
        first, last = begin // source, -(-end // source)
        edges = np.clip(np.arange(first, last + 1) * source, begin, end)
        sums[i] = np.tensordot(np.diff(edges), cells[first:last].astype(np.int64), 1)
    return sums, target
