"""Verdict of a frame from its tiles: maps are blended where tiles overlap, the highest score counts.

The image score is the maximum, so that no tile's defect is averaged away; thresholds are conformal on that maximum. The
map is blended instead: next to the border of a tile the network sees its padding, and a maximum would keep every seam.
A tile counts for less towards its border, where its neighbour sees the same place from further inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edgead.artifact.inputs import Preprocessing
from edgead.artifact.tiling import Region
from edgead.preprocess import covered, inputs_of

# A pixel of the joined map is so many pixels of the network's input, at most: the map of a frame of 12 megapixels would
# have 12 million values, and patches are 8 pixels wide.
COARSEST = 4


class Mosaic:
    """Where the tiles of aligned frames of one shape lie in the map that they make together.

    Parameters
    ----------
    spec : Preprocessing
        With tiles.
    grid : (int, int)
        Height and width of the patches' grid of one tile: no map is coarser.
    shape : (int, int)
        Height and width of the frame.

    Attributes
    ----------
    shape : (int, int)
    inputs : list of Preprocessing
        One a tile.
    """

    def __init__(self, spec: Preprocessing, grid: tuple[int, int], shape: tuple[int, int]):
        assert spec.tiles is not None
        self.shape = shape
        self.inputs = inputs_of(spec, shape)
        left, top, width, height = spec.region(shape)
        step = _step(spec.image_size, grid)
        self._tile = spec.image_size[0] // step, spec.image_size[1] // step
        regions: list[Region] = [one.roi for one in self.inputs if one.roi is not None]
        self._rows = _Axis([y - top for _, y, _, _ in regions], spec.tiles.size[0], height, self._tile[0])
        self._columns = _Axis([x - left for x, _, _, _ in regions], spec.tiles.size[1], width, self._tile[1])

    def blank(self, dtype: type = np.float32) -> np.ndarray:
        """Make an empty map of the whole frame."""
        return np.zeros((self._rows.length, self._columns.length), dtype)

    def add(self, joined: np.ndarray, number: int, anomaly_map: np.ndarray) -> None:
        """Blend a tile's map, (h, w) at the size of the network's input, into the map of the frame."""
        rows, columns = self._rows.places[number], self._columns.places[number]
        anomaly_map = anomaly_map[covered(self.inputs[number], self.shape)]
        if anomaly_map.shape != self._tile:
            anomaly_map = cv2.resize(anomaly_map, self._tile[::-1], interpolation=cv2.INTER_AREA)
        weights = self._rows.shares[number][:, None] * self._columns.shares[number]
        joined[rows, columns] += weights.astype(joined.dtype) * anomaly_map


class _Axis:
    """One side of a mosaic: its length, where each tile lies on it, and how much it counts at each pixel there."""

    def __init__(self, origins: Sequence[int], side: int, length: int, tile: int):
        self.length = max(tile, round(length * tile / side))
        distinct = sorted(set(origins))
        starts = [min(round(origin * tile / side), self.length - tile) for origin in distinct]
        total = np.zeros(self.length)
        for number, start in enumerate(starts):
            total[start : start + tile] += _ramps(starts, number, tile)
        numbers = [distinct.index(origin) for origin in origins]
        self.places = [slice(starts[number], starts[number] + tile) for number in numbers]
        self.shares = [
            _ramps(starts, number, tile) / total[place] for number, place in zip(numbers, self.places, strict=True)
        ]


def _ramps(starts: Sequence[int], number: int, tile: int) -> np.ndarray:
    """Weights of a tile: rising over what it shares with the tile before it, falling over what with the next."""
    at = np.arange(tile) + 0.5
    weight = np.ones(tile)
    if number > 0:
        weight = np.minimum(weight, at / max(starts[number - 1] + tile - starts[number], 1))
    if number + 1 < len(starts):
        weight = np.minimum(weight, (tile - at) / max(starts[number] + tile - starts[number + 1], 1))
    return weight


def _step(image_size: tuple[int, int], grid: tuple[int, int]) -> int:
    """The coarsest step that divides the map evenly and keeps it as fine as the patches."""
    fits = (
        step
        for step in range(COARSEST, 1, -1)
        if all(side % step == 0 and side // step >= patches for side, patches in zip(image_size, grid, strict=True))
    )
    return next(fits, 1)
