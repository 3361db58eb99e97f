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
        Where the network leaves what patches are scored by, of one image or of several.
    bank : ndarray of shape (m, d), float32, optional
        The output has features, which are searched in this memory bank; otherwise patch scores.

    Attributes
    ----------
    lanes : list of Scorer
        One for each image of a run, in their order.
    """

    def __init__(self, host: ImageScorer, image_size: tuple[int, int], output: Any, bank: np.ndarray | None = None):
        run = _Run(host, image_size, output, bank)
        self.lanes = [_Lane(run, number) for number in range(run.count)]

    def score(self, outputs: Outputs, state: Any = None) -> Scored:
        """Score the first image of the network's last run; see `_Lane.score`."""
        return self.lanes[0].score(outputs, state)

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        """Hand out the map of the first image; see `_Lane.anomaly_map`."""
        return self.lanes[0].anomaly_map(patch_scores)


class _Lane:
    """Scores one image of each run."""

    def __init__(self, run: _Run, number: int):
        self._run, self._number = run, number
        self._newest: np.ndarray | None = None

    def score(self, outputs: Outputs, state: Any = None) -> Scored:
        """Score the image of the network's last run; its patch scores are overwritten by the next."""
        # A patch that is not finite has a distance that is not, and is refused there.
        self._newest = self._run.host.of_scores(self._run.scores[self._number])
        patch_scores = without_hidden(self._newest, outputs)
        return Scored(patch_scores, self._run.host.image_score(patch_scores, outputs))

    def anomaly_map(self, patch_scores: np.ndarray) -> tuple[np.ndarray, float]:
        """Hand out the map of the image that was scored last, and its maximum; see `Scorer.anomaly_map`."""
        if patch_scores is not self._newest:  # without holes, or without an image's own fold
            self._run.make_map_again(self._number, patch_scores)
        # A verdict keeps its map, and the next frame writes into the buffer.
        return self._run.maps[self._number].copy(), float(self._run.maxima[self._number])


class _Run:
    """Memory and work of the images of one run, `count` of them."""

    def __init__(self, host: ImageScorer, image_size: tuple[int, int], output: Any, bank: np.ndarray | None):
        head, grid, device = host.head, host.grid, output.device
        self.host, self.count = host, int(output.shape[0])
        self._output, self._device = output, device
        self._rows, self._made = math.prod(grid), 1 + math.prod(image_size)
        all_rows = self.count * self._rows
        with device.current():
            self._nearest = None if bank is None else cuda.NearestPatches(bank)
            self._smoother = cuda.Smoother(grid, image_size, head.sigma_px, head.border)
            # Patch scores that are made here, then each maximum before its map, lie side by side, for one copy.
            self._first = all_rows if self._nearest else 0
            self._found = device.share((self._first + self.count * self._made,), np.float32)
            if self._nearest:
                self._nearest.reserve(all_rows)
                self._scores_address, self._index = self._found.address, device.allocate(4 * all_rows)
                scores = self._found.array[:all_rows]
            else:
                self._scores_address, scores = output.address, device.pinned((all_rows,), np.float32)
            self._usual = 0 if host.usual is None else _put(device, host.usual)
        made = self._found.array[self._first :].reshape(self.count, self._made)
        self.scores = scores.reshape(self.count, *grid)
        self.maxima, self.maps = made[:, 0], made[:, 1:].reshape(self.count, *image_size)
        output.then(self._enqueue)

    def _enqueue(self) -> None:
        """Put the scoring of the images into the stream, behind the network: one search for all of them."""
        if self._nearest:
            target = cuda.Neighbours(self._scores_address, self._index)
            self._nearest.search(self._output.address, self.count * self._rows, 1, target, self._device.stream)
        else:
            self._device.copy_out(self.scores, self._scores_address)
        for number in range(self.count):
            self._enqueue_map(number, self._usual)
        self._found.copy_out()

    def _enqueue_map(self, number: int, usual: int) -> None:
        scores = self._scores_address + 4 * number * self._rows
        maximum = self._found.address + 4 * (self._first + number * self._made)
        self._smoother(scores, maximum + 4, maximum, self._device.stream, usual=usual)

    def make_map_again(self, number: int, patch_scores: np.ndarray) -> None:
        """Make an image's map of other patch scores than the network's, which costs one more wait."""
        device, begin = self._device, number * self._rows
        with device.current():
            self.scores[number] = patch_scores
            if self._nearest:
                self._found.copy_in(slice(begin, begin + self._rows))
            else:
                device.copy_in(self._scores_address + 4 * begin, self.scores[number])
            self._enqueue_map(number, usual=0)
            begin = self._first + number * self._made
            self._found.copy_out(slice(begin, begin + self._made))
            device.wait()


def _put(device: Any, array: np.ndarray) -> int:
    """Copy an array to the GPU, where it stays."""
    source, address = device.pinned(array.shape, np.float32), device.allocate(4 * array.size)
    source[...] = array
    device.copy_in(address, source)
    device.wait()
    return int(address)
