"""Tiles of large images, and the advice where images are not cut although they should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from edgead.artifact.manifest import Preprocessing
from edgead.artifact.tiling import Tiling
from edgead.errors import SettingsError, tell_invalid

AUTO = "auto"
# A tile of `auto` is shrunk by so much: a defect of 10 pixels is 5 of the network's, which a patch still shows.
SHRUNK_BY = 2
# Neighbours share this part of a tile, more than the network's padding reaches and than small defects are wide.
SHARED = 1 / 8
WARN_ABOVE = 3.0
# So many tiles are learnt, but one of each image at least: of more, only a few patches would be kept each.
MAX_LEARNT = 1500


@dataclass(frozen=True, slots=True)
class AskedTiles:
    """Longer side of a tile and what neighbours share, in pixels of the images; None where that is found for them."""

    side: int | None = None
    overlap: int | None = None

    @classmethod
    def read(cls, given: str | int) -> AskedTiles:
        """Read SIZE, "SIZE,OVERLAP" or "auto"; raises SettingsError where it is none of them."""
        text = str(given).strip()
        if text == AUTO:
            return cls()
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 2 or not all(part.isdigit() for part in parts):
            raise SettingsError(f"tiles {text!r}: expected auto, or SIZE or SIZE,OVERLAP in pixels of the images")
        return cls(*map(int, parts))

    def tiling(self, image_size: tuple[int, int], shape: tuple[int, int]) -> Tiling:
        """Make the tiling for a network's input and the smallest images, each as height and width.

        Raises
        ------
        SettingsError
            A tile is smaller than 16 pixels or larger than an image, or tiles overlap by more than half.
        """
        longer = max(image_size)
        fitting = min(length * longer // side for length, side in zip(shape, image_size, strict=True))
        side = min(SHRUNK_BY * longer, fitting) if self.side is None else self.side
        if side > fitting:
            raise SettingsError(
                f"tiles of {side} pixels do not fit in images of {shape[1]} x {shape[0]}: at most {fitting}, or leave "
                "out --tiles"
            )
        size = [round(side * length / longer) for length in image_size]
        overlap = [round(SHARED * length) if self.overlap is None else self.overlap for length in size]
        try:
            return Tiling.model_validate({"size": size, "overlap": overlap})
        except ValidationError as error:
            raise SettingsError(f"tiles of {side} pixels: {tell_invalid(error.errors())}") from error


def smallest(shapes: Sequence[tuple[int, int]], roi: Sequence[int] | None) -> tuple[int, int]:
    """Least height and least width of images, or those of the region that is looked at."""
    if roi is not None:
        return roi[3], roi[2]
    heights, widths = zip(*shapes, strict=True)
    return min(heights), min(widths)


def learnt_at_most(spec: Preprocessing, images: int) -> int:
    """How many of the inputs that so many images make are learnt."""
    return images if spec.tiles is None else max(MAX_LEARNT, images)


def shrink_warning(shape: tuple[int, int], spec: Preprocessing) -> str:
    """Say what is lost where a frame of height and width `shape` is shrunk by far; empty where it is not."""
    seen = shape if spec.tiles is None else spec.tiles.size
    factor = max(length / side for length, side in zip(seen, spec.image_size, strict=True))
    if factor <= WARN_ABOVE:
        return ""
    advice = "smaller ones" if spec.tiles else "--tiles auto, which cuts them into tiles that overlap"
    return (
        f"{'tiles' if spec.tiles else 'images'} of {seen[1]} x {seen[0]} pixels are shrunk {factor:.1f} times to "
        f"{spec.image_size[1]} x {spec.image_size[0]}: a defect of {round(5 * factor)} pixels is 5 wide for the "
        f"network, and smaller ones are lost; train with {advice}"
    )
