"""Evidence of a change in a stream, by bets that win nothing while it is stable: the Shiryaev-Roberts procedure.

The bets are on conformal p-values, each of a value among all earlier values, so that the stream may be endless.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

# Values are rounded to so many bits, a relative 0.02 %: a rule that knows nothing of the data, so that the bag stays
# exact while it needs a count for each different value and not a place for each part.
_BITS = 12
# Densities of the beta distribution are the bets: small p-values are high scores. kappa * p^(kappa - 1) of power
# betting is among them, as are bets on both ends and on the middle.
_SHAPES = (0.5, 0.7, 1.0, 1.5, 2.5, 5.0)
# Shares to bet on, as parts of the way from the stated share to 1.
_FURTHER = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
_MAX_EVIDENCE = 1e250  # evidence enough; what goes on growing would overflow


class Bag:
    """Bag of the values seen so far, with their counts; it gives the p-value of each new one.

    Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, section 2.4: when the values are
    exchangeable, the smoothed p-values are independent and uniform on [0, 1], however many there were at the beginning.
    P-values against the calibration alone are neither independent nor uniform, and a long stream would show that.

    `values`: values that the stream is compared with at its beginning; may be empty.
    """

    def __init__(self, values: Iterable[float] = ()):
        rounded = np.array([_rounded(value) for value in values], np.float64)
        self._values, self._counts = np.unique(rounded, return_counts=True)
        self._total = rounded.size

    def __len__(self) -> int:
        return self._total

    def p_value(self, value: float, tie_break: float) -> float:
        """Add a value; return its p-value: the share of all values above it, plus a random share of equal values.

        `value`: finite.
        `tie_break`: random number, uniform on [0, 1), that decides about equal values.
        """
        rounded = _rounded(value)
        index = int(np.searchsorted(self._values, rounded))
        if index == len(self._values) or self._values[index] != rounded:
            self._values = np.insert(self._values, index, rounded)
            self._counts = np.insert(self._counts, index, 0)
        self._counts[index] += 1
        self._total += 1
        above = int(self._counts[index + 1 :].sum())
        # Not 0, where a bet may be infinite; a uniform number is 0 with no probability.
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


Change = Literal["higher", "lower", "more spread", "less spread"]

_BETA = np.array([(a, b) for a in _SHAPES for b in _SHAPES if (a, b) != (1, 1)])
_LOG_BETA = np.array([math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b) for a, b in _BETA])
_POWERS = _BETA - 1
_ALL = np.ones(len(_BETA), bool)
_FALLING = (_BETA[:, 0] <= 1) & (_BETA[:, 1] >= 1)  # densities that do not win more for a larger p-value


class DriftEvidence:
    """Shiryaev-Roberts statistics of several bets.

    Each statistic R becomes (1 + R) x bet at every part: the sum of the winnings of bets begun at each part so far.
    While nothing has changed, a bet wins nothing on average, so R grows by 1 a part on average. If an alarm is raised
    when R passes a bar, and R then starts again at 0, at most n / bar alarms are expected in n parts, for every n (Vovk
    et al., "Retrain or not retrain: conformal test martingales for change-point detection", 2021; Shin, Ramdas,
    Rinaldo, "E-detectors", 2022). The mean over the bets has the same property.
    """

    def __init__(self, bets: int):
        self.sums = np.zeros(bets)

    @property
    def level(self) -> float:
        return float(self.sums.sum()) / self.sums.size

    def _bet(self, factors: np.ndarray) -> None:
        self.sums = np.minimum((1 + self.sums) * factors, _MAX_EVIDENCE)


class ChangeEvidence(DriftEvidence):
    """Evidence that p-values are no longer uniform and independent.

    With `higher_only`, larger p-values count as no change: no bet is made that large p-values win.
    """

    def __init__(self, *, higher_only: bool = False) -> None:
        chosen = _FALLING if higher_only else _ALL
        super().__init__(int(chosen.sum()))
        self._beta, self._powers, self._log_beta = _BETA[chosen], _POWERS[chosen], _LOG_BETA[chosen]

    def add(self, p_value: float) -> None:
        rest = max(1 - p_value, 1e-12)
        self._bet(np.exp(self._powers @ (math.log(p_value), math.log(rest)) - self._log_beta))

    @property
    def change(self) -> Change:
        """Kind of change that the most successful bet has assumed."""
        a, b = self._beta[int(np.argmax(self.sums))]
        if a != b:
            return "higher" if a < b else "lower"
        return "more spread" if a < 1 else "less spread"


class ShareEvidence(DriftEvidence):
    """Evidence that the share of events is now more than `most`."""

    def __init__(self, most: float):
        super().__init__(len(_FURTHER))
        shares = most + (1 - most) * _FURTHER
        self._if_so, self._if_not = shares / most, (1 - shares) / (1 - most)

    def add(self, happened: bool) -> None:
        self._bet(self._if_so if happened else self._if_not)

    @property
    def change(self) -> Change:
        return "higher"
