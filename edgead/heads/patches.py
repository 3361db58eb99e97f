"""Base of heads that score patches, which turns a grid of patch scores into an image score and a map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from edgead.heads.contract import Arrays, Head, Output, Outputs, Scored
from edgead.kernels import Smoother

NOT_FINITE = "the network gave NaN or infinity: the model or its precision is broken"
GRAPH_SCORE, USUAL = "image_score", "usual_scores"
# Key beside the network's outputs, if there are holes in a height map: mask of the patches that show them, bool (h, w).
HIDDEN = "hidden"

_PositiveInt = Annotated[int, Field(gt=0)]
_Weight = Annotated[float, Field(ge=0, le=1e6)]


class PatchHead(Head):
    """Base of heads that score patches, with their common options.

    The image score is `patch_weight` x (score of the patches) + `graph_weight` x (the graph's own `image_score`). For
    the score of the patches, patch scores are averaged over windows of `window` x `window` patches, and the
    `top_patches` largest averages are averaged; 1 and 1 give the maximum, as in the PatchCore paper. It leaves out the
    `margin` outermost rings of patches, which see the network's padding more than the image; the map keeps them. A
    graph has an output `image_score` if `graph_weight` is not 0. Of models of 0.1.0 that are `by_place`, the array
    `usual_scores` is subtracted from patch scores, on the CPU.
    """

    window: _PositiveInt = 1
    top_patches: _PositiveInt = 1
    margin: Annotated[int, Field(ge=0)] = 0
    patch_weight: _Weight = 1.0
    graph_weight: _Weight = 0.0
    by_place: bool = False
    sigma_px: Annotated[float, Field(ge=0, le=1000)] = 4.0
    border: Literal["reflect", "replicate"] = "reflect"

    @model_validator(mode="after")
    def _scores_something(self) -> PatchHead:
        if not self.patch_weight and not self.graph_weight:
            raise ValueError("patch_weight and graph_weight are 0: every image would score 0")
        return self

    @property
    @abstractmethod
    def patches(self) -> Output:
        """Output of the graph from which patches are scored."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (self.patches, Output(GRAPH_SCORE, 0)) if self.graph_weight else (self.patches,)

    @property
    def arrays(self) -> tuple[str, ...]:
        return (USUAL,) if self.by_place else ()

    def check(self, outputs: Outputs, arrays: Arrays) -> None:
        if self.by_place and arrays[USUAL].shape != self.grid(outputs):
            raise ValueError(
                f"there are usual scores for a grid of {arrays[USUAL].shape}, the network gives {self.grid(outputs)}"
            )

    def grid(self, outputs: Outputs) -> tuple[int, int]:
        """Height and width of the patch grid, from the shape of the runtime's buffer."""
        shape = outputs[self.patches.name].shape
        return shape[1], shape[2]

    def inner(self, grid: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of a grid (h, w) that the image score uses: all but the margin, and at least one patch."""
        margins = [min(self.margin, (side - 1) // 2) for side in grid]
        return slice(margins[0], grid[0] - margins[0]), slice(margins[1], grid[1] - margins[1])

    def fitting_window(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the averaging window, reduced if the `inner` part of the grid is smaller."""
        rows, columns = (part.stop - part.start for part in self.inner(grid))
        return min(self.window, rows), min(self.window, columns)

    def reference_of(
        self, scores: np.ndarray, outputs: Arrays, image_size: tuple[int, int]
    ) -> tuple[float, np.ndarray]:
        """Compute image score and map in float64 from patch scores, float64 (h, w)."""
        scores = without_hidden(scores, outputs)
        inside = scores[self.inner(scores.shape)]  # type: ignore[arg-type]
        windows = np.lib.stride_tricks.sliding_window_view(inside, self.fitting_window(scores.shape))  # type: ignore[arg-type]
        averages = np.sort(windows.mean(axis=(2, 3)), axis=None)
        image_score = self.patch_weight * averages[-self.top_patches :].mean()
        if self.graph_weight:
            image_score += self.graph_weight * float(outputs[GRAPH_SCORE])
        rows, columns = (_stretch(*sides) for sides in zip(scores.shape, image_size, strict=True))
        return float(image_score), _blur(rows @ scores @ columns.T, self.sigma_px, self.border)


class ImageScorer:
    """Computation of image scores from patch scores.

    `grid`: height and width of the patch grid.
    """

    def __init__(self, head: PatchHead, grid: tuple[int, int]):
        self.head, self.grid = head, grid
        self._inner, self._window = head.inner(grid), head.fitting_window(grid)

    def of_scores(self, scores: np.ndarray) -> np.ndarray:
        """Lay patch scores out on the grid; raises ValueError unless they are finite."""
        if not np.isfinite(scores).all():
            raise ValueError(NOT_FINITE)
        return scores.reshape(self.grid)

    def image_score(self, patch_scores: np.ndarray, outputs: Mapping[str, Any] = {}) -> float:
        """Compute the image score.

        `patch_scores`: ndarray of shape (h, w), float32.
        `outputs`: outputs of the network, for the graph's own score.
        Returns the weighted sum that `PatchHead` describes.
        Raises ValueError if the graph's own score is NaN or infinite.
        """
        score = self.head.patch_weight * self._of_patches(patch_scores) if self.head.patch_weight else 0.0
        if not self.head.graph_weight:
            return score
        graph_score = outputs[GRAPH_SCORE]
        if not np.isfinite(graph_score).all():
            raise ValueError(NOT_FINITE)
        return score + self.head.graph_weight * float(graph_score[0])

    def _of_patches(self, patch_scores: np.ndarray) -> float:
        """Compute the score of the patches: the mean of the `top_patches` largest window means, without the margin."""
        averages = patch_scores[self._inner]
        if self._window != (1, 1):
            rows, columns = averages.shape
            height, width = self._window
            averages = cv2.blur(np.ascontiguousarray(averages), (width, height), anchor=(0, 0))
            averages = averages[: rows - height + 1, : columns - width + 1]
        count = min(self.head.top_patches, averages.size)
        if count == 1:
            return float(averages.max())
        flat = averages.ravel()
        return float(np.partition(flat, flat.size - count)[-count:].mean(dtype=np.float64))


class PatchScorer(ImageScorer, ABC):
    """Base of scorers on the CPU; subclasses compute the patch scores.

    `head`, `grid`: parameters of `ImageScorer`.
    `image_size`: height and width of the anomaly map.
    """

    def __init__(self, head: PatchHead, grid: tuple[int, int], image_size: tuple[int, int]):
        super().__init__(head, grid)
        self._usual: Any = np.float32(0)
        self._smoother = Smoother(grid, image_size, head.sigma_px, border=head.border)

    @abstractmethod
    def patch_scores(self, outputs: Outputs) -> np.ndarray:
        """Score every patch, float32 (h, w); raises ValueError if the network gave NaN or infinity."""

    def less(self, arrays: Arrays) -> Self:
        """Subtract the array `usual_scores`, if there is one, from all patch scores from now on."""
        self._usual = arrays.get(USUAL, self._usual)
        return self

    def score(self, outputs: Outputs, state: Any = None) -> Scored:
        """Score a frame; see `edgead.heads.contract.Scorer`."""
        patch_scores = without_hidden(self.patch_scores(outputs), outputs)
        return Scored(patch_scores, self.image_score(patch_scores, outputs))

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        """Upsample and smooth; returns the map (h, w) float32 at image size and its maximum."""
        return self._smoother(patch_scores)


def without_hidden(scores: np.ndarray, outputs: Mapping[str, Any]) -> np.ndarray:
    """Set the scores (h, w) of patches that show holes to the lowest score of the others."""
    hidden = outputs.get(HIDDEN)
    if hidden is None:
        return scores
    return np.where(hidden, scores[~hidden].min(), scores)


def _stretch(source: int, target: int) -> np.ndarray:
    """Matrix (target, source) of linear interpolation between the centres of `source` values."""
    places = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(source)))


def _blur(image: np.ndarray, sigma_px: float, border: str) -> np.ndarray:
    if sigma_px == 0:
        return image
    radius = int(np.ceil(4 * sigma_px))
    kernel = cv2.getGaussianKernel(2 * radius + 1, sigma_px, cv2.CV_64F)
    kind = {"reflect": cv2.BORDER_REFLECT, "replicate": cv2.BORDER_REPLICATE}[border]
    return cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=kind)
