"""Scoring on the GPU, in the network's stream and after it: patch scores, the map and its maximum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgead.heads.contract import Outputs, Scored
from edgead.heads.patches import ImageScorer, without_hidden
from edgead.kernels import cuda


class GpuScorer:
    """Scorer of a network output that stays on the GPU.

    The search and the map, which are nearly all of the work, follow the network in its stream. One copy brings their
    results to the host before the network's run returns. The image score of the few hundred patch scores is computed
    by the same code as on the CPU.

    `host`: computes the image score.
    `image_size`: height and width of the map.
    `output` (edgead.runtime.device.DeviceArray): buffer of the network's output from which patches are scored, for one
        image or several.
    `bank` (ndarray of shape (m, d), float32): memory bank in which the output's features are searched; without one the
        output has patch scores.
    `lanes`: scorers, one for each image of a run, in order.
    """

    def __init__(self, host: ImageScorer, image_size: tuple[int, int], output: Any, bank: np.ndarray | None = None):
        run = _Run(host, image_size, output, bank)
        self.lanes = [_Lane(run, number) for number in range(run.count)]

    def score(self, outputs: Outputs, state: Any = None) -> Scored:
        """Score the first image of the network's last run; see `_Lane.score`."""
        return self.lanes[0].score(outputs, state)

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the map of the first image; see `_Lane.anomaly_map`."""
        return self.lanes[0].anomaly_map(patch_scores)


class _Lane:
    """Scorer of the image at one position of each run."""

    def __init__(self, run: _Run, number: int):
        self._run, self._number = run, number
        self._newest: np.ndarray | None = None

    def score(self, outputs: Outputs, state: Any = None) -> Scored:
        """Score the image of the network's last run; the next run overwrites its patch scores."""
        # A patch that is not finite has a distance that is not, which is refused below.
        self._newest = self._run.host.of_scores(self._run.scores[self._number])
        patch_scores = without_hidden(self._newest, outputs)
        return Scored(patch_scores, self._run.host.image_score(patch_scores, outputs))

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the map of the image that was scored last, and its maximum; see `Scorer.anomaly_map`."""
        if patch_scores is not self._newest:  # changed since: holes masked, or a fold left out
            self._run.make_map_again(self._number, patch_scores)
        # A copy, as a verdict keeps its map and the next frame writes into the buffer.
        return self._run.maps[self._number].copy(), float(self._run.maxima[self._number])


class _Run:
    """GPU memory and operations for the `count` images of one run."""

    def __init__(self, host: ImageScorer, image_size: tuple[int, int], output: Any, bank: np.ndarray | None):
        head, grid, device = host.head, host.grid, output.device
        self.host, self.count = host, int(output.shape[0])
        self._output, self._device = output, device
        self._rows, self._made = math.prod(grid), 1 + math.prod(image_size)
        all_rows = self.count * self._rows
        with device.current():
            self._nearest = None if bank is None else cuda.NearestPatches(bank)
            self._smoother = cuda.Smoother(grid, image_size, head.sigma_px, head.border)
            # Patch scores computed here, then each maximum with its map, are adjacent in memory, for a single copy.
            self._first = all_rows if self._nearest else 0
            self._found = device.share((self._first + self.count * self._made,), np.float32)
            if self._nearest:
                self._nearest.reserve(all_rows)
                self._scores_address, self._index = self._found.address, device.allocate(4 * all_rows)
                scores = self._found.array[:all_rows]
            else:
                self._scores_address, scores = output.address, device.pinned((all_rows,), np.float32)
        made = self._found.array[self._first :].reshape(self.count, self._made)
        self.scores = scores.reshape(self.count, *grid)
        self.maxima, self.maps = made[:, 0], made[:, 1:].reshape(self.count, *image_size)
        output.then(self._enqueue)

    def _enqueue(self) -> None:
        """Enqueue the scoring of the images in the stream after the network: one search for all of them."""
        if self._nearest:
            target = cuda.Neighbours(self._scores_address, self._index)
            self._nearest.search(self._output.address, self.count * self._rows, 1, target, self._device.stream)
        else:
            self._device.copy_out(self.scores, self._scores_address)
        for number in range(self.count):
            self._enqueue_map(number)
        self._found.copy_out()

    def _enqueue_map(self, number: int) -> None:
        scores = self._scores_address + 4 * number * self._rows
        maximum = self._found.address + 4 * (self._first + number * self._made)
        self._smoother(scores, maximum + 4, maximum, self._device.stream)

    def make_map_again(self, number: int, patch_scores: np.ndarray) -> None:
        """Compute an image's map from changed patch scores, at the cost of one more synchronisation."""
        device, begin = self._device, number * self._rows
        with device.current():
            self.scores[number] = patch_scores
            if self._nearest:
                self._found.copy_in(slice(begin, begin + self._rows))
            else:
                device.copy_in(self._scores_address + 4 * begin, self.scores[number])
            self._enqueue_map(number)
            begin = self._first + number * self._made
            self._found.copy_out(slice(begin, begin + self._made))
            device.wait()
