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
        return not self.by_place and not cuda_problem()

    def open(self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int]) -> Scorer:
        scores, grid = outputs[self.patches.name], self.grid(outputs)
        if isinstance(scores, np.ndarray):
            return MapScorer(self, grid, image_size).less(arrays)
        from edgead.heads.gpu import GpuScorer

        return GpuScorer(ImageScorer(self, grid), image_size, scores)

    def reference(self, outputs: Arrays, arrays: Arrays, image_size: tuple[int, int]) -> tuple[float, np.ndarray]:
        return self.reference_of(outputs[self.patches.name] - arrays.get(USUAL, 0), outputs, image_size)


class MapScorer(PatchScorer):
    """Scorer that takes the graph's patch scores as they are."""

    def patch_scores(self, outputs: Outputs) -> np.ndarray:
        return self.of_scores(outputs[self.head.patches.name]) - self._usual
