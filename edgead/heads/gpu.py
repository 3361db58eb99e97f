"""Scoring of what the network left on the GPU, behind it in the same stream: patch scores, the map and its maximum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgead.heads.contract import Outputs, Scored
from edgead.heads.patches import ImageScorer, without_hidden
from edgead.kernels import cuda


class GpuScorer:
    """Scores patches by an output that is on the GPU.

    The search and the map, which are nearly all of the work, follow the network in its stream. What they give is on the
    host when the network's run returns, in one copy. The image score is made of the few hundred patch scores by the
    same code as anywhere.

    Parameters
    ----------
    host : ImageScorer
        Makes the image score.
    image_size : (int, int)
        Height and width of the map.
    output : edgead.runtime.device.DeviceArray
        Where the network leaves what patches are scored by.
    bank : ndarray of shape (m, d), float32, optional
        The output has features, which are searched in this memory bank; otherwise patch scores.
    """

    def __init__(self, host: ImageScorer, image_size: tuple[int, int], output: Any, bank: np.ndarray | None = None):
        head, grid, device = host.head, host.grid, output.device
        self._host, self._output, self._device = host, output, device
        rows, pixels = math.prod(grid), math.prod(image_size)
        with device.current():
            self._nearest = None if bank is None else cuda.NearestPatches(bank)
            self._smoother = cuda.Smoother(grid, image_size, head.sigma_px, head.border)
            # Patch scores, the maximum and the map lie side by side, for one copy.
            self._found = device.pinned((rows + 1 + pixels,), np.float32)
            self._address = device.allocate(self._found.nbytes)
            self._scores_address = output.address
            if self._nearest:
                self._nearest.reserve(rows)
                self._scores_address, self._index = self._address, device.allocate(4 * rows)
            self._usual = 0 if host.usual is None else _put(device, host.usual)
        self._scores, self._map = self._found[:rows].reshape(grid), self._found[rows + 1 :].reshape(image_size)
        self._rows = rows
        self._newest: np.ndarray | None = None
        output.then(self._enqueue)

    def _enqueue(self) -> None:
        """Put the scoring of a frame into the stream, behind the network."""
        if self._nearest:
            target = cuda.Neighbours(self._address, self._index)
            self._nearest.search(self._output.address, self._rows, 1, target, self._device.stream)
        else:
            self._device.copy_out(self._scores, self._scores_address)
        self._enqueue_map(self._usual)

    def _enqueue_map(self, usual: int) -> None:
        maximum = self._address + 4 * self._rows
        self._smoother(self._scores_address, maximum + 4, maximum, self._device.stream, usual=usual)
        first = 0 if self._nearest else self._rows
        self._device.copy_out(self._found[first:], self._address + 4 * first)

    def score(self, outputs: Outputs, state: Any = None) -> Scored:
        """Score the frame of the network's last run; its patch scores are overwritten by the next."""
        # A patch that is not finite has a distance that is not, and is refused there.
        self._newest = self._host.of_scores(self._scores)
        patch_scores = without_hidden(self._newest, outputs)
        return Scored(patch_scores, self._host.image_score(patch_scores, outputs))

    def _map_again(self, patch_scores: np.ndarray) -> None:
        """Make the map of other patch scores than the network's, which costs one more wait."""
        device = self._device
        with device.current():
            self._scores[...] = patch_scores
            device.copy_in(self._scores_address, self._scores)
            self._enqueue_map(usual=0)
            device.wait()

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        """Hand out the map of the frame that was scored last, and its maximum; see `Scorer.anomaly_map`."""
        if patch_scores is not self._newest:  # without holes, or without an image's own fold
            self._map_again(patch_scores)
        # A verdict keeps its map, and the next frame writes into the buffer.
        return self._map.copy(), float(self._found[self._rows])


def _put(device: Any, array: np.ndarray) -> int:
    """Copy an array to the GPU, where it stays."""
    source, address = device.pinned(array.shape, np.float32), device.allocate(4 * array.size)
    source[...] = array
    device.copy_in(address, source)
    device.wait()
    return int(address)
