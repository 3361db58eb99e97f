"""Heads of somebody else: found by their entry points, as if this folder were an installed package."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from edgead.heads import Head
from edgead.heads.contract import Arrays, Output, Outputs, Scored, Scorer
from edgead.kernels import Smoother

FRAMES = 3


class Offset(Head):
    """Patch scores are the graph's less the array `offset`; the image score is their mean."""

    kind: Literal["offset"] = "offset"
    factor: Annotated[float, Field(gt=0, le=10)] = 1.0

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output("differences", 2),)

    @property
    def arrays(self) -> tuple[str, ...]:
        return ("offset",)

    def check(self, outputs: Outputs, arrays: Arrays) -> None:
        if arrays["offset"].shape != (1, 1):
            raise ValueError(f"the offset is one number, found {arrays['offset'].shape}")

    def open(self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int]) -> Scorer:
        return OffsetScorer(self, arrays["offset"][0, 0], outputs["differences"].shape[1:], image_size)

    def reference(self, outputs: Arrays, arrays: Arrays, image_size: tuple[int, int]) -> tuple[float, np.ndarray]:
        scores = self.factor * (outputs["differences"] - float(arrays["offset"][0, 0]))
        sides = [place * size // image for place, size, image in _places(scores.shape, image_size)]
        return float(scores.mean()), scores[np.ix_(*sides)]


class OffsetScorer:
    def __init__(self, head: Offset, offset: float, grid: tuple[int, int], image_size: tuple[int, int]):
        self._head, self._offset, self._size = head, offset, image_size

    def score(self, outputs: Outputs, state: Any = None) -> Scored:
        scores = np.float32(self._head.factor) * (outputs["differences"][0] - self._offset)
        return Scored(scores, float(scores.mean(dtype=np.float64)))

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        sides = [place * size // image for place, size, image in _places(patch_scores.shape, self._size)]
        return patch_scores[np.ix_(*sides)], float(patch_scores.max())


class Recent(Head):
    """The image score is the mean of the last three frames' highest patches; before the third there is none."""

    kind: Literal["recent"] = "recent"

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output("differences", 2),)

    @property
    def frames(self) -> int:
        return FRAMES

    def new_state(self) -> deque[float]:
        return deque(maxlen=FRAMES)

    def open(self, outputs: Outputs, arrays: Arrays, image_size: tuple[int, int]) -> Scorer:
        return RecentScorer(outputs["differences"].shape[1:], image_size)

    def reference(self, outputs: Mapping[str, np.ndarray], arrays: Arrays, image_size: tuple[int, int]) -> Any:
        raise NotImplementedError("what this head says is not compared with anything here")


class RecentScorer:
    def __init__(self, grid: tuple[int, int], image_size: tuple[int, int]):
        self._smoother = Smoother(grid, image_size, 2.0)

    def score(self, outputs: Outputs, state: Any = None) -> Scored | None:
        scores = outputs["differences"][0]
        state.append(float(scores.max()))
        return Scored(scores, sum(state) / FRAMES) if len(state) == FRAMES else None

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        return self._smoother(patch_scores)


def _places(grid: tuple[int, ...], image_size: tuple[int, int]) -> list[tuple[np.ndarray, int, int]]:
    return [(np.arange(image), size, image) for size, image in zip(grid, image_size, strict=True)]
