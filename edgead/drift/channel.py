"""Channel of the drift watch: a value of every part, or a share of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from edgead.drift.betting import Change, ChangeEvidence, ShareEvidence
from edgead.drift.streaming_p_values import Bag


class Channel(Protocol):
    """Evidence that something has changed."""

    @property
    def level(self) -> float: ...
    @property
    def change(self) -> Change: ...
    def to_dict(self) -> dict[str, Any]: ...
    def take(self, kept: dict[str, Any]) -> None: ...


class ValueChannel:
    """A value of every part, compared with those of all parts before.

    Parameters
    ----------
    values : sequence of float
        What the first part is compared with; may be empty.
    higher_only : bool
        The values may lie above what parts have while all is well, and only higher parts are a change.
    """

    def __init__(self, values: Sequence[float] = (), *, higher_only: bool = False):
        self._bag, self._evidence = Bag(values), ChangeEvidence(higher_only=higher_only)

    def add(self, value: float, tie_break: float) -> None:
        self._evidence.add(self._bag.p_value(value, tie_break))

    @property
    def level(self) -> float:
        return self._evidence.level

    @property
    def change(self) -> Change:
        return self._evidence.change

    def to_dict(self) -> dict[str, Any]:
        return {"bag": self._bag.to_dict(), "sums": self._evidence.sums.tolist()}

    def take(self, kept: dict[str, Any]) -> None:
        self._bag = Bag.from_dict(kept["bag"])
        self._evidence.sums = _sums(kept, self._evidence.sums.size)


class ShareChannel:
    """Parts that something happens to: a share of at most `most` while nothing has changed."""

    def __init__(self, most: float):
        self._evidence = ShareEvidence(most)

    def add(self, happened: bool) -> None:
        self._evidence.add(happened)

    @property
    def level(self) -> float:
        return self._evidence.level

    @property
    def change(self) -> Change:
        return self._evidence.change

    def to_dict(self) -> dict[str, Any]:
        return {"sums": self._evidence.sums.tolist()}

    def take(self, kept: dict[str, Any]) -> None:
        self._evidence.sums = _sums(kept, self._evidence.sums.size)


def _sums(kept: dict[str, Any], bets: int) -> np.ndarray:
    sums = np.array(kept["sums"], np.float64)
    if sums.shape != (bets,) or not np.all(sums >= 0):
        raise ValueError(f"{bets} sums of bets are needed, found {sums.size}")
    return sums
