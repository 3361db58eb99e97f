"""The float64 truth that every exact contender must give before it is timed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

QUERY_BLOCK = 112
SPARE = 16  # candidates beyond k: the rounding of float64 products cannot reorder over more distinct rows than this

# Libraries that take float32 products |q|^2 + |b|^2 - 2 q.b lose a few units in the last place of |q|^2 + |b|^2.
PRODUCT_SLACK = 1e-5


class DisagreementError(Exception):
    """A contender that should be exact is not."""


class NearestTruth:
    """The nearest rows of a bank by float64 differences; the lowest row wins a tie.

    Attributes
    ----------
    distance, index : ndarray of shape (n, k), float64 and int64
    """

    def __init__(self, queries: Array, bank: Array, k: int) -> None:
        self._queries, self._bank = queries.astype(np.float64), bank.astype(np.float64)
        # Equal rows tie exactly; only as many of the first of them as can be among the k nearest are looked at.
        kept = _first_of_equals(bank, k)
        rows = self._bank[kept]
        norms = (rows**2).sum(axis=1)
        wanted = min(k + SPARE, len(kept))
        index, distance = [], []
        for start in range(0, len(queries), QUERY_BLOCK):
            block = self._queries[start : start + QUERY_BLOCK]
            near = np.argpartition(norms - 2 * (block @ rows.T), wanted - 1, axis=1)[:, :wanted]
            near = kept[np.sort(near, axis=1)]
            exact = self._measure(block, near)
            order = np.argsort(exact, axis=1, kind="stable")[:, :k]
            index.append(np.take_along_axis(near, order, axis=1))
            distance.append(np.take_along_axis(exact, order, axis=1))
        self.index, self.distance = np.concatenate(index), np.concatenate(distance)

    def check_exact(self, name: str, distance: npt.NDArray[np.floating], index: npt.NDArray[np.integer]) -> None:
        """Raise DisagreementError unless these are the true neighbours, and their distances rounded to float32."""
        found = self._measure(self._queries, index)
        wrong = (index != self.index) & (found > self.distance * (1 + 1e-12))
        if wrong.any():
            raise DisagreementError(f"{name}: {wrong.sum()} of {wrong.size} neighbours are not the nearest")
        off = np.abs(distance - self.distance) > 2e-7 * self.distance
        if off.any():
            raise DisagreementError(f"{name}: {off.sum()} of {off.size} distances differ from float64's")

    def check_rounded(self, name: str, index: npt.NDArray[np.integer]) -> None:
        """Raise DisagreementError unless these are nearest up to the rounding of float32 products."""
        found = self._measure(self._queries, index)
        scale = (self._queries**2).sum(axis=1).max() + (self._bank**2).sum(axis=1).max()
        excess = float((found**2 - self.distance**2).max())
        if excess > PRODUCT_SLACK * scale:
            raise DisagreementError(f"{name}: a neighbour's squared distance is {excess:.3g} above the smallest")

    def recall(self, index: npt.NDArray[np.integer]) -> float:
        """Share of true neighbours, by distance, so that a tie counts as found."""
        return float((self._measure(self._queries, index) <= self.distance * (1 + 1e-6)).mean())

    def worst_ratio(self, index: npt.NDArray[np.integer]) -> float:
        """The largest distance that is reported for the nearest row, in units of the true one."""
        found = self._measure(self._queries, index)[:, 0]
        return float((found / np.maximum(self.distance[:, 0], np.finfo(np.float32).tiny)).max())

    def _measure(self, queries: npt.NDArray[np.float64], index: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        return np.stack(
            [np.sqrt(((self._bank[column] - queries) ** 2).sum(axis=1)) for column in index.T],
            axis=1,
        )


def _first_of_equals(bank: Array, k: int) -> npt.NDArray[np.int64]:
    seen: dict[bytes, int] = {}
    kept = []
    for row, values in enumerate(bank):
        key = values.tobytes()
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= k:
            kept.append(row)
    return np.array(kept)
