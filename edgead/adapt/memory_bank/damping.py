"""Choice of damping: whether lengths of patch vectors count, tested with made scars on good images not learnt.

Damped patches are compared by direction: light and contrast, which change lengths, count for less, and so do defects
that change only lengths. The better choice depends on the product. Edgead's own; measurements: benchmarks/RESULTS.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgead.adapt.memory_bank.learn import LearntBank
from edgead.adapt.memory_bank.made import Scarred, left_out_separation
from edgead.heads.nearest import NearestHead

MARGIN = 0.01
"""Lengths stay undamped only if this costs less than so much AUROC of scars, one standard error included."""

FEWEST_SCARRED = 20
"""Fewest images; with fewer no error can be estimated, and lengths are damped."""


@dataclass(frozen=True, slots=True)
class Damping:
    """Choice between a memory bank of damped patches and one of plain patches.

    `damped`, `plain`: AUROC of scars on images that were left out, for either bank.
    `error`: standard error of the difference of both.
    """

    damped: float
    plain: float
    error: float

    @property
    def damps(self) -> bool:
        """Whether lengths are damped; in case of doubt they are."""
        return self.plain - self.damped - self.error <= -MARGIN

    @property
    def facts(self) -> dict[str, float | bool]:
        """Entry of the manifest: the choice and its figures."""
        found = {"damped": self.damped, "plain": self.plain, "error": self.error}
        return {"damps": self.damps, **{name: round(each, 4) for name, each in found.items()}}


def compare_damping(
    damped: LearntBank, plain: LearntBank, head: NearestHead, scarred: Scarred, folds: Sequence[int] | np.ndarray
) -> Damping:
    """Compare a bank of damped patches with one of plain patches.

    `damped`, `plain`: banks of the same images and folds.
    `folds`: fold of each learnt image.
    """
    found = [left_out_separation(learnt, head, scarred, folds) for learnt in (damped, plain)]
    _, error = found[1].above(found[0])
    return Damping(found[0].auroc, found[1].auroc, error)
