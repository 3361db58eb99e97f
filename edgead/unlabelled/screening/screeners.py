"""Methods of screening: what is asked of one, what it does, and the registry of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgead.artifact.inputs import Preprocessing
from edgead.components.added import Added
from edgead.dataset.folders import StageProgress
from edgead.dataset.groups import AUTO, NONE
from edgead.errors import SettingsError
from edgead.unlabelled.screening.mutual import MutualRule

MUTUAL = "mutual"


class PileScorer(Protocol):
    """Scores the images of a pile by each other.

    A package adds one by `[project.entry-points."edgead.screeners"]` with `NAME = "module:Class"`; the class is made of
    a `ScreenPlan`, and raises SettingsError where that does not fit it.

    Attributes
    ----------
    preprocessing : Preprocessing
        What images are resized to.
    knows_parts : bool
        Whether images of one part say nothing of each other; otherwise each image is compared with all others.
    """

    preprocessing: Preprocessing
    knows_parts: bool

    def __call__(
        self, paths: Sequence[Path], parts: Sequence[int], progress: StageProgress
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Score each image, float64 (n,), and its patches, float32 (n, h, w); `parts` says which it shows."""
        ...


@dataclass(frozen=True, slots=True)
class ScreenPlan:
    """How to screen.

    Attributes
    ----------
    backbone : str, optional
        That of a preset of patchcore, by default "fast". Of another package's method, what that says.
    rule : MutualRule
    zoom : int, optional
        How many times as large as the backbone takes them images are looked at, on a side; by default twice.
    roi : (int, int, int, int), optional
        x, y, width and height of the part of the image to look at.
    group : str
        Which images show the same part, see `edgead.dataset.groups.group_images`.
    method : str
        A name in `SCREENERS`: "mutual", which is ours, or another package's.
    """

    backbone: str | None = None
    rule: MutualRule = MutualRule()
    zoom: int | None = None
    roi: tuple[int, ...] | None = None
    group: str = AUTO
    method: str = MUTUAL

    def __post_init__(self) -> None:
        if not 0 < self.rule.interval <= 1:
            raise SettingsError(
                f"the interval is a share of the images above 0 and up to 1, found {self.rule.interval}"
            )
        if self.zoom is not None and not 1 <= self.zoom <= 8:
            raise SettingsError(f"the zoom is a whole number from 1 to 8, found {self.zoom}")
        if min(self.rule.alike, default=1) < 1:
            raise SettingsError(f"alike images are counted from 1, the image itself; found {min(self.rule.alike)}")

    def open(self) -> PileScorer:
        """Open what scores a pile; raises as `screen`."""
        scorer = SCREENERS.find(self.method)(self)
        if not scorer.knows_parts and self.group not in (AUTO, NONE):
            raise SettingsError(f"{self.method} compares each image with all others: leave out --group")
        return scorer


SCREENERS: Added[Callable[[ScreenPlan], PileScorer]] = Added(
    "edgead.screeners", "method of screening", {MUTUAL: "edgead.unlabelled.screening.features:MutualScorer"}
)
