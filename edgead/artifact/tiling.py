"""Tiling of a large frame: overlapping tiles of equal size, in the frame's pixels, that cover all of it."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, model_validator

from edgead.artifact.strict_section import StrictSection
from edgead.errors import SettingsError

Region = tuple[int, int, int, int]
"""x, y, width and height in pixels of a frame."""

# A manifest is read before anything else of a model is checked: it must not be able to demand unbounded time.
MAX_TILES = 1024

_Side = Annotated[int, Field(ge=16, le=8192)]


class Tiling(StrictSection):
    """Height and width of a tile, and the least overlap of neighbours in rows and columns; pixels of the frame."""

    size: tuple[_Side, _Side]
    overlap: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]

    @model_validator(mode="after")
    def _overlaps_by_half(self) -> Tiling:
        if any(2 * shared > side for shared, side in zip(self.overlap, self.size, strict=True)):
            raise ValueError(f"tiles of {self.size} overlap by {self.overlap}: by half of their size at most")
        return self

    def over(self, shape: tuple[int, ...]) -> list[Region]:
        """Lay tiles over a frame of shape (H, W) or (H, W, 3), row by row.

        The first and the last of a row touch the frame's border, the others are spaced evenly between them.

        Raises
        ------
        SettingsError
            The frame is smaller than a tile, or needs more than `MAX_TILES`.

        Examples
        --------
        >>> Tiling(size=(40, 40), overlap=(8, 8)).over((40, 100))
        [(0, 0, 40, 40), (30, 0, 40, 40), (60, 0, 40, 40)]
        """
        rows, columns = (
            _origins(length, side, shared)
            for length, side, shared in zip(shape[:2], self.size, self.overlap, strict=True)
        )
        height, width = self.size
        if not rows or not columns:
            raise SettingsError(
                f"a frame of {shape[1]} x {shape[0]} pixels is smaller than a tile of {width} x {height}: this model "
                "expects frames of the size that it was trained on"
            )
        if len(rows) * len(columns) > MAX_TILES:
            raise SettingsError(
                f"a frame of {shape[1]} x {shape[0]} pixels takes {len(rows) * len(columns)} tiles of "
                f"{width} x {height}, more than {MAX_TILES}: train with larger ones"
            )
        return [(x, y, width, height) for y in rows for x in columns]


def _origins(length: int, side: int, shared: int) -> list[int]:
    """Starts of the tiles along an axis; empty if the axis is shorter than a tile."""
    if length < side:
        return []
    steps = math.ceil((length - side) / (side - shared))
    return [number * (length - side) // max(steps, 1) for number in range(steps + 1)]
