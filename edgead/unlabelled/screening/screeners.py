"""Screening methods: their interface, their settings, and their registry."""

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
    """Screening method, which scores unlabelled images by comparing them with each other.

    A package adds it by `[project.entry-points."edgead.screeners"]` with `NAME = "module:Class"`; the class takes a
    `ScreenPlan`, and raises SettingsError if it does not support the plan.

    `preprocessing`: preprocessing of images.
    `knows_parts`: whether images of one part are excluded from comparison; otherwise each image is compared with all
        others.
    """

    preprocessing: Preprocessing
    knows_parts: bool

    def __call__(
        self, paths: Sequence[Path], parts: Sequence[int], progress: StageProgress
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Score each image, float64 (n,), and its patches, float32 (n, h, w); `parts` is the part in each image."""
        ...


@dataclass(frozen=True, slots=True)
class ScreenPlan:
    """Settings of a screening.

    Attributes
    ----------
    backbone : str, optional
        Preset of patchcore whose backbone is used, by default "fast". Methods of packages have other names.
    rule : MutualRule
    zoom : int, optional
        Size of images on each side in multiples of the backbone's input; by default 2.
    roi : (int, int, int, int), optional
        x, y, width and height of the region of interest.
    group : str
        Rule by which images show the same part, see `edgead.dataset.groups.group_images`.
    method : str
        Name in `SCREENERS`: "mutual", edgead's own, or a method of another package.
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
        """Open the screening method; raises the errors of `screen`."""
        scorer = SCREENERS.find(self.method)(self)
        if not scorer.knows_parts and self.group not in (AUTO, NONE):
            raise SettingsError(f"{self.method} compares each image with all others: leave out --group")
        return scorer


SCREENERS: Added[Callable[[ScreenPlan], PileScorer]] = Added(
    "edgead.screeners", "method of screening", {MUTUAL: "edgead.unlabelled.screening.features:MutualScorer"}
)
