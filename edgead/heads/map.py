"""Head of detectors whose network computes the patch scores itself."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgead.heads.contract import Arrays, Output, Outputs, Scorer
from edgead.heads.patches import USUAL, ImageScorer, PatchHead, PatchScorer
from edgead.kernels.backend import cuda_problem


class MapHead(PatchHead):
    """Head whose patch scores are the graph's output `patch_scores`."""

    kind: Literal["map"] = "map"

    @property
    def patches(self) -> Output:
        return Output("patch_scores", 2)

    @property
    def takes_gpu_arrays(self) -> bool:
        return not cuda_problem()

    def open(self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int]) -> Scorer:
        scores, grid, usual = outputs[self.patches.name], self.grid(outputs), arrays.get(USUAL)
        if isinstance(scores, np.ndarray):
            return MapScorer(self, grid, image_size, usual)
        from edgead.heads.gpu import GpuScorer

        return GpuScorer(ImageScorer(self, grid, usual), image_size, scores)

    def reference(self, outputs: Arrays, arrays: Arrays, image_size: tuple[int, int]) -> tuple[float, np.ndarray]:
        scores = outputs[self.patches.name]
        if self.by_place:
            scores = scores - arrays[USUAL].astype(np.float64)
        return self.reference_of(scores, outputs, image_size)


class MapScorer(PatchScorer):
    """Scorer that takes the graph's patch scores as they are, less the usual scores of each place."""

    def patch_scores(self, outputs: Outputs) -> np.ndarray:
        return self.of_scores(outputs[self.head.patches.name])
