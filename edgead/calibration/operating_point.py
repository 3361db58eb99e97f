"""Operating points: what each limit rejects of good parts and finds of known defects, and which costs least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgead.calibration.conformal import CalibrationError, conformal_threshold, images_needed, raised
from edgead.calibration.group_conformal import Ranking, dense, weights

# Shown to whoever chooses a limit, as far as the good images support them.
SHOWN_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
_RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Costs:
    """What wrong decisions cost, in any unit, and which share of the parts that come is defective."""

    escape: float
    reject: float
    defective: float

    def __post_init__(self) -> None:
        if not (self.escape > 0 and self.reject > 0 and 0 < self.defective < 1):
            raise CalibrationError(
                f"costs are above 0 and the share of defective parts lies between 0 and 1, found an escape of "
                f"{self.escape:g}, a rejected good part of {self.reject:g} and a share of {self.defective:g}"
            )

    def of(self, passed: np.ndarray | float, rejected: np.ndarray | float) -> np.ndarray:
        """Expected cost of a part, where these shares of the defects pass and of the good parts are rejected."""
        return self.escape * self.defective * np.asarray(passed) + self.reject * (1 - self.defective) * np.asarray(
            rejected
        )


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A limit for a false-reject rate: `above` of the good images have a higher score, and `found` of the defects."""

    rate: float
    limit: float
    above: int
    found: int


def operating_points(
    good: Sequence[float],
    groups: Sequence[int] = (),
    defects: Sequence[float] = (),
    rates: Sequence[float] = SHOWN_RATES,
) -> list[OperatingPoint]:
    """Find the limits for some rates; those that the good images do not support are left out.

    Parameters
    ----------
    good : sequence of float
        Scores of good images that were held out, or left out of what scored them.
    groups : sequence of int
        Group of each of them; empty where each is its own.
    defects : sequence of float
        Scores of known defects.
    rates : sequence of float
    """
    count = len(set(groups)) or len(good)
    points = []
    for rate in rates:
        if images_needed(rate) > count:
            continue
        limit = raised(conformal_threshold(good, rate, groups or None))
        points.append(
            OperatingPoint(rate, limit, sum(score > limit for score in good), sum(score > limit for score in defects))
        )
    return points


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The rate of least expected cost, that cost, and the rates that 90 % of resampled images would have chosen."""

    rate: float
    cost: float
    low: float
    high: float


def cheapest_rate(
    good: Sequence[float], groups: Sequence[int], defects: Sequence[float], costs: Costs, *, seed: int = 0
) -> Cheapest:
    """Find the false-reject rate at which a part costs least, among all that the good images support.

    Parameters
    ----------
    good, groups, defects
        As for `operating_points`; at least one defect.
    costs : Costs
    seed : int
        Of the resamples, which draw groups of good images and defects with replacement.

    Raises
    ------
    CalibrationError
        There are no defects.
    """
    if not len(defects):
        raise CalibrationError("costs need known defects: name a folder of them with --defects")
    ranks, numbers = np.argsort(good, kind="stable"), np.array(dense(groups) if len(groups) else range(len(good)))
    scores, numbers, of_defect = np.asarray(good, np.float64)[ranks], numbers[ranks], np.argsort(defects)
    count, share = int(numbers.max()) + 1, weights(numbers.tolist())
    # A limit at each good score, highest first: what it rejects is the weight of the good scores above it.
    limits = np.unique(scores)[::-1]
    first_above = np.searchsorted(scores, limits, "right")
    passing = np.searchsorted(np.asarray(defects, np.float64)[of_defect], limits, "right")

    def costs_of(groups_drawn: np.ndarray, defects_drawn: np.ndarray) -> np.ndarray:
        above = np.cumsum((share * groups_drawn[numbers])[::-1])[::-1]
        rejected = np.append(above, 0.0)[first_above] / groups_drawn.sum()
        passed = np.append(0.0, np.cumsum(defects_drawn[of_defect]))[passing] / defects_drawn.sum()
        return costs.of(passed, rejected)

    ranking, rng = Ranking(scores.tolist(), numbers.tolist()), np.random.default_rng(seed)

    def drawn(size: int) -> np.ndarray:
        return rng.multinomial(size, np.full(size, 1 / size))

    again = [limits[np.argmin(costs_of(drawn(count), drawn(len(defects))))] for _ in range(_RESAMPLES)]
    low, high = np.percentile([ranking.share_above(limit) for limit in again], (5, 95))
    cost = costs_of(np.ones(count), np.ones(len(defects)))
    best = int(np.argmin(cost))
    return Cheapest(ranking.share_above(limits[best]), float(cost[best]), float(low), float(high))
