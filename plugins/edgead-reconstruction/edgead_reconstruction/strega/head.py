"""Head of `strega`: opens the residual by area; the image score is the mean of the result."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from edgead.heads.contract import Arrays, Output, Outputs
from edgead.heads.patches import USUAL, PatchHead, PatchScorer
from edgead_reconstruction.strega.opening import open_levels


class AreaOpenedHead(PatchHead):
    """Options of the opening; every head that scores patches has `window` and the other options.

    The graph's output `patch_scores` is the residual. It is opened by area at `levels` heights around `cut`: at each
    height, only connected regions of at least `area` patches count.
    """

    kind: Literal["area_opened"] = "area_opened"
    cut: Annotated[float, Field(gt=0, le=1000)] = 0.2
    levels: Annotated[int, Field(ge=1, le=64)] = 5
    area: Annotated[int, Field(ge=1)] = 64

    @property
    def patches(self) -> Output:
        return Output("patch_scores", 2)

    def opened(self, residual: np.ndarray) -> np.ndarray:
        """Open a residual (h, w) by area; return float32 in 0..1."""
        return open_levels(residual, cut=self.cut, levels=self.levels, area=self.area)

    def open(self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int]) -> AreaOpenedScorer:
        return AreaOpenedScorer(self, self.grid(outputs), image_size).less(arrays)

    def reference(self, outputs: Arrays, arrays: Arrays, image_size: tuple[int, int]) -> tuple[float, np.ndarray]:
        opened = self.opened(outputs[self.patches.name] - arrays.get(USUAL, 0))
        return self.reference_of(opened.astype(np.float64), outputs, image_size)


class AreaOpenedScorer(PatchScorer):
    """Scorer that opens the graph's residuals by area."""

    head: AreaOpenedHead

    def patch_scores(self, outputs: Outputs) -> np.ndarray:
        return self.head.opened(self.of_scores(outputs[self.head.patches.name]) - self._usual)
