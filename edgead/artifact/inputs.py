"""Inputs of a graph: the plane of a frame, and how it is prepared."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator

from edgead.artifact.strict_section import Section
from edgead.artifact.tiling import Region, Tiling

MAX_PIXELS = 1 << 24  # of the network's input

PositiveInt = Annotated[int, Field(gt=0)]
_Side = Annotated[int, Field(gt=0, le=8192)]
_FrameSide = Annotated[int, Field(gt=0, le=65_535)]
_Place = Annotated[int, Field(ge=0, le=65_535)]


class Ignored(Section):
    """Places of a frame that never count: polygons of corners (x, y) in pixels, filled by the even-odd rule.

    `frame_size` is height and width of the frames that they are of.
    """

    frame_size: tuple[_FrameSide, _FrameSide]
    polygons: Annotated[
        tuple[Annotated[tuple[tuple[_Place, _Place], ...], Field(min_length=1)], ...],
        Field(min_length=1, max_length=10_000),
    ]


class Alignment(Section):
    """The golden image that parts are laid onto, before a region is cut out.

    `look` is that image in grey levels and few pixels, a PNG in base64. A part that is less alike than
    `least_correlation`, wherever it is laid, was not found.
    """

    frame_size: tuple[_FrameSide, _FrameSide]
    look: Annotated[str, Field(max_length=200_000)]
    least_correlation: Annotated[float, Field(ge=0, le=1)] = 0.5


class Preprocessing(Section):
    """How a frame becomes the network's input; see `edgead.artifact.preprocess`.

    A frame of other proportions than `image_size` is stretched, or keeps its own and the rest is filled with its
    reflection. With `tiles` the frame, or its region `roi`, is cut, and each tile becomes an input.
    """

    image_size: tuple[_Side, _Side]
    roi: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], PositiveInt, PositiveInt] | None = None
    resize: Literal["area_linear"] = "area_linear"
    fill: Literal["stretch", "reflect"] = "stretch"
    colour: Literal["rgb"] = "rgb"
    ignored: Ignored | None = None
    alignment: Alignment | None = None
    tiles: Tiling | None = None

    def region(self, shape: tuple[int, ...]) -> Region:
        """The part of a frame of shape (H, W) or (H, W, 3) that is looked at."""
        return self.roi or (0, 0, shape[1], shape[0])

    @field_validator("image_size")
    @classmethod
    def _bounded(cls, size: tuple[int, int]) -> tuple[int, int]:
        if math.prod(size) > MAX_PIXELS:
            raise ValueError(f"{size[0]} x {size[1]} pixels are too many for a network: at most {MAX_PIXELS}")
        return size


class TensorInput(Section):
    """What the graph is given: the plane of a frame that its input `name` takes, and how that is prepared.

    `clip` is the number of frames that one run takes.
    """

    name: str = "image"
    plane: str = "image"
    clip: Literal[1] = 1
    preprocessing: Preprocessing
