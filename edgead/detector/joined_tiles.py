"""Map of a tiled frame: where each tile lies in it, and how overlapping tiles blend into each other."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edgead.artifact.inputs import Preprocessing
from edgead.artifact.preprocess import covered, inputs_of
from edgead.artifact.tiling import Region
from edgead.errors import SettingsError

# Largest step of the joined map in pixels of the network's input: at full size the map of a frame of 12 megapixels
# would have 12 million values, while patches are 8 pixels wide.
COARSEST = 4


class Mosaic:
    """Layout of tiles in the joined map, for aligned frames of one shape.

    `spec`: a preprocessing with tiles.
    `grid`: height and width of the patch grid of one tile: the map is at least as fine.
    `shape`: height and width of the frame.
    `inputs`: preprocessing of each tile.
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
        """Make a map of the whole frame, filled with zeros."""
        return np.zeros((self._rows.length, self._columns.length), dtype)

    def add(self, joined: np.ndarray, number: int, anomaly_map: np.ndarray) -> None:
        """Blend a tile's map, (h, w) at the size of the network's input, into the map of the frame."""
        rows, columns = self._rows.places[number], self._columns.places[number]
        anomaly_map = anomaly_map[covered(self.inputs[number], self.shape)]
        if anomaly_map.shape != self._tile:
            anomaly_map = cv2.resize(anomaly_map, self._tile[::-1], interpolation=cv2.INTER_AREA)
        weights = self._rows.shares[number][:, None] * self._columns.shares[number]
        joined[rows, columns] += weights.astype(joined.dtype) * anomaly_map

    def blended(self, of_rows: np.ndarray, of_columns: np.ndarray) -> list[np.ndarray]:
        """Combine the linear operators from patch scores to a tile's map into those for the map of the whole frame.

        `of_rows`, `of_columns` (ndarray of shape (h, n), float64): operators of one tile, at the size of the network's
            input.
        Returns list of ndarray of shape (H, tiles * n), float64: operators along rows and along columns; the columns of
            each tile in turn.
        Raises SettingsError: tiles have other proportions than the network's input, and so are padded.
        """
        shown = covered(self.inputs[0], self.shape)
        made = []
        for operator, part, side, axis in zip(
            (of_rows, of_columns), shown, self._tile, (self._rows, self._columns), strict=True
        ):
            operator = operator[part]
            if len(operator) % side:
                raise SettingsError(
                    f"tiles fill {len(operator)} lines of the network's input, their map has {side}: train with tiles "
                    "of the input's proportions"
                )
            made.append(axis.blended(operator.reshape(side, -1, operator.shape[1]).mean(axis=1)))
        return made


class _Axis:
    """Axis of a mosaic: its length, and the position and blending weights of each tile along it."""

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

    def blended(self, of_tile: np.ndarray) -> np.ndarray:
        """See `Mosaic.blended`."""
        distinct = {place.start: (place, share) for place, share in zip(self.places, self.shares, strict=True)}
        width = of_tile.shape[1]
        joined = np.zeros((self.length, len(distinct) * width))
        for number, (place, share) in enumerate(distinct.values()):
            joined[place, number * width : (number + 1) * width] = share[:, None] * of_tile
        return joined


def _ramps(starts: Sequence[int], number: int, tile: int) -> np.ndarray:
    """Blending weights of a tile: rising over the overlap with the previous tile, falling over that with the next."""
    at = np.arange(tile) + 0.5
    weight = np.ones(tile)
    if number > 0:
        weight = np.minimum(weight, at / max(starts[number - 1] + tile - starts[number], 1))
    if number + 1 < len(starts):
        weight = np.minimum(weight, (tile - at) / max(starts[number] + tile - starts[number + 1], 1))
    return weight


def _step(image_size: tuple[int, int], grid: tuple[int, int]) -> int:
    """Largest step that divides the map evenly and keeps it at least as fine as the patches."""
    fits = (
        step
        for step in range(COARSEST, 1, -1)
        if all(side % step == 0 and side // step >= patches for side, patches in zip(image_size, grid, strict=True))
    )
    return next(fits, 1)
