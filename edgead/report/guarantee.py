"""Check of the thresholds' guaranteed rates against a test set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgead.artifact.manifest import PROVEN, Calibration
from edgead.calibration.cause_of_rejects import beta_binomial_tail
from edgead.calibration.group_conformal import have_several
from edgead.metrics import Rate


@dataclass(frozen=True, slots=True)
class Guarantee:
    """Comparison of a threshold's rate with the count on good parts that it was not derived from.

    `name`: "rejected" or "rejected or sent to review".
    `asked`: requested largest share of good parts.
    `probability`: probability of at least this count if the guarantee holds; None if the thresholds guarantee nothing,
        or if images come in groups, where the interval of the count decides.
    `proven`: whether the rate is guaranteed, and not only expected.
    """

    name: str
    asked: float
    counted: Rate
    probability: float | None
    proven: bool = True

    @property
    def refuted(self) -> bool:
        """Whether the count is higher than chance allows."""
        return self.counted.low > self.asked if self.probability is None else self.probability < 0.05

    @property
    def aim(self) -> str:
        return f"{'at most' if self.proven else 'about'} {percent(self.asked)}"

    @property
    def comparison(self) -> str:
        """Words that follow "the limit is", for the reject limit."""
        return f"for {self.aim} false rejects, and rejects {percent(self.counted.rate)} of these good parts"

    @property
    def verdict(self) -> str:
        """Sentence on what the count tells about the rate, and what so few parts cannot tell."""
        counted, asked = self.counted, percent(self.asked)
        if self.refuted:
            if self.proven:
                return "not kept: these parts are not like those of the calibration"
            return f"more than the {asked} that are expected"
        if counted.rate > self.asked:
            chance = "" if self.probability is None else f" (chance {percent(self.probability, 2)})"
            return f"{percent(counted.rate, 2)} of {counted.total}; compatible with {asked}{chance}: too few to tell"
        if counted.high > self.asked:
            return f"compatible with {asked}; {counted.total} parts leave up to {percent(counted.high, 2)} possible"
        return "kept" if self.proven else "as expected"


def examine_guarantee(
    calibration: Calibration, name: str, asked: float, events: Sequence[bool], groups: Sequence[int] | None = None
) -> Guarantee:
    """Compare a count of good parts with the guarantee of the conformal threshold.

    For parts like the n of the calibration, the number above the k-th smallest score is beta-binomial for any
    distribution of scores (Vovk, "Conditional validity of inductive conformal predictors", 2012). If images come in
    groups, the requested rate is refuted if it is below the interval of the counted one, which considers the groups.
    """
    by_group = calibration.method in PROVEN and (bool(calibration.groups) or have_several(groups))
    probability = None
    images = len(calibration.scores)
    rank = math.ceil((images + 1) * (1 - asked) - 1e-9)
    if calibration.method == "split_conformal" and rank <= images and not by_group:
        probability = beta_binomial_tail(sum(events), len(events), images + 1 - rank, rank)
    return Guarantee(name, asked, Rate.of_groups(events, groups), probability, calibration.method in PROVEN)


def percent(rate: float, digits: int = 3) -> str:
    """Format a share as a percentage with `digits` digits, or as many as its integer part has."""
    value = 100 * rate
    return f"{value:.0f} %" if value >= 10 ** (digits - 1) else f"{value:.{digits}g} %"
