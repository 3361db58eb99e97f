"""Conformal p-values against all that came before, for a stream that never ends."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

# Values are rounded to so many bits, a relative 0.02 %: a rule that knows nothing of the data, so that the bag stays
# exact while it needs a count for each different value and not a place for each part.
_BITS = 12


class Bag:
    """Values seen so far, as counts.

    Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, section 2.4: when the values are
    exchangeable, the smoothed p-values are independent and uniform on [0, 1], however many there were at the beginning.
    P-values against the calibration alone would be neither, and a long stream would tell the two apart.

    Parameters
    ----------
    values : iterable of float
        What the stream is compared with at its beginning; may be empty.
    """

    def __init__(self, values: Iterable[float] = ()):
        rounded = np.array([_rounded(value) for value in values], np.float64)
        self._values, self._counts = np.unique(rounded, return_counts=True)
        self._total = rounded.size

    def __len__(self) -> int:
        return self._total

    def p_value(self, value: float, tie_break: float) -> float:
        """Add a value and return the share of all that lie above it, a random part of its ties included.

        Parameters
        ----------
        value : float
            Finite.
        tie_break : float
            Uniform on [0, 1).
        """
        rounded = _rounded(value)
        index = int(np.searchsorted(self._values, rounded))
        if index == len(self._values) or self._values[index] != rounded:
            self._values = np.insert(self._values, index, rounded)
            self._counts = np.insert(self._counts, index, 0)
        self._counts[index] += 1
        self._total += 1
        above = int(self._counts[index + 1 :].sum())
        # Not 0: a bet may be infinite there, and a uniform number is it with no probability.
        return max((above + tie_break * int(self._counts[index])) / self._total, 1e-12)

    def to_dict(self) -> dict[str, Any]:
        return {"values": self._values.tolist(), "counts": self._counts.tolist()}

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Bag:
        bag = cls()
        bag._values, bag._counts = np.array(kept["values"], np.float64), np.array(kept["counts"], np.int64)
        bag._total = int(bag._counts.sum())
        return bag


def _rounded(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 2**_BITS), exponent - _BITS)
