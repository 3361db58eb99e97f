"""The network's output becomes patch scores, an image score and an anomaly map."""

from __future__ import annotations

import cv2
import numpy as np

from edgead.artifact.manifest import Scoring
from edgead.kernels import NearestPatches, Smoother

NOT_FINITE = "the network gave NaN or infinity: the model or its precision is broken"


def inner(spec: Scoring, grid: tuple[int, int]) -> tuple[slice, slice]:
    """The part of a grid (h, w) that the image score looks at: all but the margin, and one patch at least."""
    margins = [min(spec.margin, (side - 1) // 2) for side in grid]
    return slice(margins[0], grid[0] - margins[0]), slice(margins[1], grid[1] - margins[1])


def window(spec: Scoring, grid: tuple[int, int]) -> tuple[int, int]:
    """Height and width in patches of the window that fits into that part."""
    rows, columns = (part.stop - part.start for part in inner(spec, grid))
    return min(spec.window, rows), min(spec.window, columns)


class Scorer:
    """Everything that scoring needs, prepared once for one artifact.

    Parameters
    ----------
    spec : Scoring
        From the artifact's manifest.
    grid : (int, int)
        Height and width of the patch grid.
    image_size : (int, int)
        Height and width of the anomaly map.
    memory_bank : ndarray of shape (m, d), float32, optional
        For the `patch_nearest` head.
    usual : ndarray of shape (h, w), float32, optional
        Where the manifest says `by_place`.
    """

    def __init__(
        self,
        spec: Scoring,
        grid: tuple[int, int],
        image_size: tuple[int, int],
        memory_bank: np.ndarray | None = None,
        usual: np.ndarray | None = None,
    ):
        if (spec.head == "patch_nearest") != (memory_bank is not None):
            raise ValueError(f"head {spec.head!r} with{'' if memory_bank is not None else 'out'} a memory bank")
        if spec.by_place != (usual is not None) or (usual is not None and usual.shape != grid):
            found = "missing" if usual is None else f"of shape {usual.shape}"
            raise ValueError(f"by_place is {spec.by_place}, the grid {grid}, and the usual scores are {found}")
        self.spec = spec
        self.grid = grid
        self._usual = usual
        self._inner = inner(spec, grid)
        self._window = window(spec, grid)
        self._memory_bank = memory_bank
        self._nearest = None if memory_bank is None else NearestPatches(memory_bank)
        self._smoother = Smoother(grid, image_size, spec.sigma_px, border=spec.border)

    def patch_scores(self, output: np.ndarray) -> np.ndarray:
        """Score every patch.

        Parameters
        ----------
        output : ndarray of shape (1, h, w, d) or (1, h, w), float32
            `features` for the `patch_nearest` head, `patch_scores` for `map`.

        Returns
        -------
        ndarray of shape (h, w), float32
            Mean Euclidean distance to the `num_neighbors` nearest rows of the memory bank, or the graph's, less what
            is usual at this place where the manifest says so.

        Raises
        ------
        ValueError
            If the network gave NaN or infinity: no verdict is made of that.
        """
        if self._nearest is None:
            if not np.isfinite(output).all():
                raise ValueError(NOT_FINITE)
            scores = output.reshape(self.grid)
        else:
            features = output.reshape(-1, output.shape[-1])
            distance, _ = self._nearest.search(features, self.spec.num_neighbors)
            scores = distance.mean(axis=1).reshape(self.grid)
        return scores if self._usual is None else scores - self._usual

    def image_score(
        self,
        patch_scores: np.ndarray,
        graph_score: np.ndarray | None = None,
        *,
        features: np.ndarray | None = None,
    ) -> float:
        """Score an image.

        Parameters
        ----------
        patch_scores : ndarray of shape (h, w), float32
        graph_score : ndarray of shape (1,), float32, optional
            The graph's own `image_score`, where the manifest gives it a weight.
        features : ndarray of shape (1, h, w, d), float32, optional
            What `patch_scores` was called with; needed where the manifest asks for re-weighting.

        Returns
        -------
        float
            The weighted sum that `edgead.artifact.manifest.Scoring` describes.

        Raises
        ------
        ValueError
            If the graph's score is NaN or infinite, or `features` are needed and missing.
        """
        score = self.spec.patch_weight * self._of_patches(patch_scores, features) if self.spec.patch_weight else 0.0
        if graph_score is None:
            return score
        if not np.isfinite(graph_score).all():
            raise ValueError(NOT_FINITE)
        return score + self.spec.graph_weight * float(graph_score[0])

    def _of_patches(self, patch_scores: np.ndarray, features: np.ndarray | None) -> float:
        score = self._highest(patch_scores)
        if self.spec.reweight_neighbors:
            if features is None:
                raise ValueError("re-weighting needs the features that the patches were scored by")
            score *= self._rarity(patch_scores, features)
        return score

    def _highest(self, patch_scores: np.ndarray) -> float:
        """Mean of the `top_patches` largest averages over a window; windows lie inside the grid without its margin."""
        averages = patch_scores[self._inner]
        if self._window != (1, 1):
            rows, columns = averages.shape
            height, width = self._window
            averages = cv2.blur(np.ascontiguousarray(averages), (width, height), anchor=(0, 0))
            averages = averages[: rows - height + 1, : columns - width + 1]
        count = min(self.spec.top_patches, averages.size)
        if count == 1:
            return float(averages.max())
        flat = averages.ravel()
        return float(np.partition(flat, flat.size - count)[-count:].mean(dtype=np.float64))

    def _rarity(self, patch_scores: np.ndarray, features: np.ndarray) -> float:
        """Weight of Roth et al. 2022, equation 7: near 1 where the rows around the highest patch's nearest one are far.

        Two more searches of one patch each, whatever the size of the grid.
        """
        assert self._nearest is not None and self._memory_bank is not None
        patch = features.reshape(-1, features.shape[-1])[int(np.argmax(patch_scores))]
        _, nearest = self._nearest.search(patch[None])
        _, around = self._nearest.search(self._memory_bank[nearest[0]], self.spec.reweight_neighbors)
        rows = self._memory_bank[np.append(nearest[0], around[0])].astype(np.float64)
        distances = np.linalg.norm(rows - patch, axis=1)
        exponentials = np.exp(distances - distances.max())  # without the largest taken off they would overflow
        return float(1 - exponentials[0] / exponentials[1:].sum())

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        """Upsample and smooth; returns the map (h, w) float32 at image size and its maximum."""
        return self._smoother(patch_scores)
