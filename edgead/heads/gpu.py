"""Scoring of what the network left on the GPU: only patch scores, the map and its maximum come back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgead.heads.contract import Outputs, Scored
from edgead.heads.patches import HIDDEN, ImageScorer, without_hidden
from edgead.kernels import cuda


class GpuScorer:
    """Scores patches by an output that is on the GPU.

    The search and the map, which are nearly all of the work, are the GPU's. The few hundred patch scores are fetched,
    and the image score is made of them by the same code as anywhere.

    Parameters
    ----------
    host : ImageScorer
        Makes the image score.
    image_size : (int, int)
        Height and width of the map.
    device : edgead.runtime.device.Device
        Where the network leaves its output.
    bank : ndarray of shape (m, d), float32, optional
        The output has features, which are searched in this memory bank; otherwise patch scores.
    """

    def __init__(self, host: ImageScorer, image_size: tuple[int, int], device: Any, bank: np.ndarray | None = None):
        head, grid = host.head, host.grid
        self._host, self._device, self._rows = host, device, grid[0] * grid[1]
        with device.current():
            self._nearest = None if bank is None else cuda.NearestPatches(bank)
            if self._nearest:
                self._nearest.reserve(self._rows)
            self._smoother = cuda.Smoother(grid, image_size, head.sigma_px, head.border)
            self._distance, self._index = device.allocate(4 * self._rows), device.allocate(4 * self._rows)
            self._map_address, self._maximum_address = device.allocate(4 * math.prod(image_size)), device.allocate(4)
            self._scores = device.pinned(grid, np.float32)
            self._map, self._maximum = device.pinned(image_size, np.float32), device.pinned((1,), np.float32)

    def score(self, outputs: Outputs, state: Any = None) -> Scored:
        """Score a frame; the patch scores are overwritten by the next call."""
        patch_scores = self.patch_scores(outputs)
        if outputs.get(HIDDEN) is not None:
            with self._device.current():
                self._scores[...] = without_hidden(patch_scores, outputs)
                self._device.copy_in(self._scores_address, self._scores)  # the map is made of these
            patch_scores = self._scores
        return Scored(patch_scores, self._host.image_score(patch_scores, outputs))

    def patch_scores(self, outputs: Outputs) -> np.ndarray:
        """Score every patch, as `PatchScorer.patch_scores`; the result is overwritten by the next call."""
        device, output = self._device, outputs[self._host.head.patches.name]
        self._scores_address = self._distance if self._nearest else output.address
        with device.current():
            if self._nearest:
                target = cuda.Neighbours(self._distance, self._index)
                self._nearest.search(output.address, self._rows, 1, target, device.stream)
            device.copy_out(self._scores, self._scores_address)
            device.wait()
            # A patch that is not finite has a distance that is not, and is refused there.
            scores = self._host.of_scores(self._scores)
            if self._host.head.by_place:
                self._scores[...] = scores
                device.copy_in(self._scores_address, self._scores)  # the map is made of these
                return self._scores
            return scores

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
