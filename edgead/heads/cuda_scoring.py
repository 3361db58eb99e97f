"""Scoring of what the network left on the GPU: only patch scores, the map and its maximum come back."""

from __future__ import annotations

import math

import numpy as np

from edgead.artifact.manifest import Scoring
from edgead.heads.scoring import Scorer
from edgead.kernels import cuda
from edgead.kernels.backend import cuda_problem
from edgead.runtime.device import Device, DeviceArray


def can_score_on_device(spec: Scoring) -> bool:
    """Tell whether DeviceScorer can take a model here.

    It needs edgead's CUDA kernels, which average no neighbours, and re-weighting needs the features on the host.
    """
    return spec.num_neighbors == 1 and not spec.reweight_neighbors and not cuda_problem()


class DeviceScorer:
    """`edgead.heads.scoring.Scorer` for a network whose output is on the GPU; see there for all other parameters.

    The search and the map, which are nearly all of the work, are the GPU's. The few hundred patch scores are fetched,
    and the image score is made of them by the same code as anywhere.
    """

    def __init__(
        self,
        spec: Scoring,
        grid: tuple[int, int],
        image_size: tuple[int, int],
        memory_bank: np.ndarray | None,
        usual: np.ndarray | None,
        device: Device,
    ):
        self._device, self._rows = device, grid[0] * grid[1]
        self._patches = Scorer(spec.model_copy(update={"head": "map"}), grid, image_size, usual=usual)
        with device.current():
            self._nearest = None if memory_bank is None else cuda.NearestPatches(memory_bank)
            if self._nearest:
                self._nearest.reserve(self._rows)
            self._smoother = cuda.Smoother(grid, image_size, spec.sigma_px, spec.border)
            self._distance, self._index = device.allocate(4 * self._rows), device.allocate(4 * self._rows)
            self._map_address, self._maximum_address = device.allocate(4 * math.prod(image_size)), device.allocate(4)
            self._scores = device.pinned(grid, np.float32)
            self._map, self._maximum = device.pinned(image_size, np.float32), device.pinned((1,), np.float32)

    def patch_scores(self, output: DeviceArray) -> np.ndarray:
        """Score every patch, as `Scorer.patch_scores`; the result is overwritten by the next call."""
        device = self._device
        self._scores_address = self._distance if self._nearest else output.address
        with device.current():
            if self._nearest:
                target = cuda.Neighbours(self._distance, self._index)
                self._nearest.search(output.address, self._rows, 1, target, device.stream)
            device.copy_out(self._scores, self._scores_address)
            device.wait()
            # A patch that is not finite has a distance that is not, and is refused there.
            scores = self._patches.patch_scores(self._scores)
            if self._patches.spec.by_place:
                self._scores[...] = scores
                device.copy_in(self._scores_address, self._scores)  # the map is made of these
                return self._scores
            return scores

    def image_score(
        self,
        patch_scores: np.ndarray,
        graph_score: np.ndarray | None = None,
        *,
        features: DeviceArray | None = None,
    ) -> float:
        """Score an image, as `Scorer.image_score`; `features`, which stay on the GPU, are not looked at."""
        return self._patches.image_score(patch_scores, graph_score)

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        """Upsample and smooth what `patch_scores` has last left on the GPU; see `Scorer.anomaly_map`."""
        device = self._device
        with device.current():
            self._smoother(self._scores_address, self._map_address, self._maximum_address, device.stream)
            device.copy_out(self._map, self._map_address)
            device.copy_out(self._maximum, self._maximum_address)
            device.wait()
        # A verdict keeps its map, and the next frame writes into the buffer.
        return self._map.copy(), float(self._maximum[0])
