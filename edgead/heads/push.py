"""Head of detectors whose network outputs by how many millimetres each place is too low or too high."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from edgead.heads.contract import Arrays, Output, Outputs, Scored
from edgead.heads.patches import USUAL, PatchHead, PatchScorer


class PushHead(PatchHead):
    """Head of the output `push_mm`: the displacement in mm that would bring each patch back, positive if it is too low.

    A patch scores the length of its displacement, so that scores are millimetres.
    """

    kind: Literal["push"] = "push"

    @property
    def patches(self) -> Output:
        return Output("push_mm", 2)

    def open(self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int]) -> PushScorer:
        return PushScorer(self, self.grid(outputs), image_size).less(arrays)

    def reference(self, outputs: Arrays, arrays: Arrays, image_size: tuple[int, int]) -> tuple[float, np.ndarray]:
        return self.reference_of(np.abs(outputs[self.patches.name]) - arrays.get(USUAL, 0), outputs, image_size)


class PushScorer(PatchScorer):
    """Scorer by the graph's displacements, which also returns that of the worst patch."""

    def patch_scores(self, outputs: Outputs) -> np.ndarray:
        return self.of_scores(np.abs(outputs[self.head.patches.name])) - self._usual

    def score(self, outputs: Outputs, state: Any = None) -> Scored:
        scored = super().score(outputs, state)
        inner = self.head.inner(self.grid)
        pushes = outputs[self.head.patches.name].reshape(self.grid)[inner]
        worst = float(pushes.flat[scored.patch_scores[inner].argmax()])
        return replace(scored, measured={**scored.measured, "push_mm": worst})
