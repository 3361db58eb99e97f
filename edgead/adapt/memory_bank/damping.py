"""Damping by evidence: whether the lengths of patches count, by scars on good images that were left out.

Damped patches are compared by direction: light and contrast, which move lengths, count for less, and so do defects that
move nothing else. Which of both matters is the product's. Ours; see benchmarks/RESULTS.md for how it was settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgead.adapt.memory_bank.learn import LearntBank
from edgead.adapt.memory_bank.made import Scarred, left_out_separation
from edgead.heads.nearest import NearestHead

MARGIN = 0.01
"""Lengths are damped unless it is sure, by one standard error, that AUROC of scars without is at most so much below."""

FEWEST_SCARRED = 20
"""Images below which no error can be estimated: lengths are damped."""


@dataclass(frozen=True, slots=True)
class Damping:
    """A choice between a bank of damped patches and one of plain ones.

    Attributes
    ----------
    damped, plain : float
        AUROC of scars on images that were left out.
    error : float
        Standard error of their difference.
    """

    damped: float
    plain: float
    error: float

    @property
    def damps(self) -> bool:
        """Whether lengths are damped: also in doubt."""
        return self.plain - self.damped - self.error <= -MARGIN

    @property
    def facts(self) -> dict[str, float | bool]:
        """Entry for the manifest."""
        found = {"damped": self.damped, "plain": self.plain, "error": self.error}
        return {"damps": self.damps, **{name: round(each, 4) for name, each in found.items()}}


def compare_damping(
    damped: LearntBank, plain: LearntBank, head: NearestHead, scarred: Scarred, folds: Sequence[int] | np.ndarray
) -> Damping:
    """Compare a bank of damped patches with one of plain patches.

    Parameters
    ----------
    damped, plain : LearntBank
        Of the same images and folds.
    head : NearestHead
    scarred : Scarred
    folds : sequence of int
        Of each image that was learnt.
    """
    found = [left_out_separation(learnt, head, scarred, folds) for learnt in (damped, plain)]
    _, error = found[1].above(found[0])
    return Damping(found[0].auroc, found[1].auroc, error)
