"""A head: the image score is the mean of the highest patches of a map that the network makes."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import Field

from edgead.heads import Head
from edgead.heads.contract import Output, Scored


class TopScorer:
    def __init__(self, head: "TopHead", image_size: tuple[int, int]):
        self._head = head
        self._image_size = image_size

    def score(self, outputs: Mapping[str, np.ndarray], state: Any = None) -> Scored:
        patch_scores = np.array(outputs["map"][0], np.float32)  # a copy: the next run overwrites what the network gave
        if not np.isfinite(patch_scores).all():
            raise ValueError("the network gave NaN or infinity")
        return Scored(patch_scores, self._head.top_mean(patch_scores))

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        height, width = self._image_size
        enlarged = cv2.resize(patch_scores, (width, height))
        return enlarged, float(enlarged.max())


class TopHead(Head):
    """The mean of the highest patches."""

    kind: Literal["top"] = "top"
    count: Annotated[int, Field(ge=1, le=1000, description="Patches whose mean is the score.")] = 4

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output("map", 2),)

    def top_mean(self, patch_scores: np.ndarray) -> float:
        return float(np.sort(patch_scores, axis=None)[-self.count :].mean())

    def open(self, outputs: Any, arrays: Any, image_size: tuple[int, int]) -> TopScorer:
        return TopScorer(self, image_size)

    def reference(self, outputs: Any, arrays: Any, image_size: tuple[int, int]) -> tuple[float, np.ndarray]:
        patch_scores = outputs["map"].astype(np.float64)
        return self.top_mean(patch_scores), cv2.resize(patch_scores, image_size[::-1])
