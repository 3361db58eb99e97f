"""Inputs of a graph: the plane of a frame, and how it is prepared."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from edgead.artifact.strict_section import Section
from edgead.artifact.tiling import Region, Tiling
from edgead.types import VALUES

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


Colour = Literal["rgb", "grey16", "relief", "rgb_relief"]
_Value = Annotated[float, Field(ge=-3.5e38, le=3.5e38)]
_PositiveMm = Annotated[float, Field(gt=0, le=1e9)]


class Range(Section):
    """Values of grey images that a network is shown as 0 and as 255; what lies beyond keeps its distance."""

    low: _Value
    high: _Value

    @model_validator(mode="after")
    def _ascends(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"the range of grey values goes from {self.low:g} to {self.high:g}, which is none")
        return self


class Relief(Section):
    """How heights become what a network is shown; see `edgead.artifact.relief`.

    `height_mm` above and below the surroundings, a Gaussian of `sigma_px`, are shown as 255 and 0, and so is a slope of
    `slope_mm` per pixel; pixels are those of the network's input. A value of `invalid`, NaN or infinity is a hole.
    """

    mm_per_count: _PositiveMm
    height_mm: _PositiveMm
    slope_mm: _PositiveMm
    sigma_px: Annotated[float, Field(gt=0, le=8192)]
    invalid: Literal[0] = 0


class Preprocessing(Section):
    """How a frame becomes the network's input; see `edgead.artifact.preprocess`.

    A frame of other proportions than `image_size` is stretched, or keeps its own and the rest is filled with its
    reflection. With `tiles` the frame, or its region `roi`, is cut, and each tile becomes an input. `mm_per_pixel`
    of the frame, at the distance of the part, gives boxes their size.
    """

    image_size: tuple[_Side, _Side]
    roi: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], PositiveInt, PositiveInt] | None = None
    resize: Literal["area_linear"] = "area_linear"
    fill: Literal["stretch", "reflect"] = "stretch"
    colour: Colour = "rgb"
    grey16: Range | None = None
    relief: Relief | None = None
    ignored: Ignored | None = None
    alignment: Alignment | None = None
    tiles: Tiling | None = None
    mm_per_pixel: _PositiveMm | None = None

    @property
    def keeps_depth(self) -> bool:
        """Whether it is made from values, uint16 or float32, alone or beside colours, and not from 8-bit colours."""
        return self.colour != "rgb"

    @property
    def channels(self) -> int:
        """Of the network's input: three, or three of the colours and three of the relief."""
        return 6 if self.colour == "rgb_relief" else 3

    @property
    def dtype(self) -> str:
        """Numbers of the network's input: 8 bits would not hold the values of those that keep their depth."""
        return "float32" if self.keeps_depth else "uint8"

    def region(self, shape: tuple[int, ...]) -> Region:
        """The part of a frame of shape (H, W) or (H, W, 3) that is looked at."""
        return self.roi or (0, 0, shape[1], shape[0])

    @field_validator("image_size")
    @classmethod
    def _bounded(cls, size: tuple[int, int]) -> tuple[int, int]:
        if math.prod(size) > MAX_PIXELS:
            raise ValueError(f"{size[1]} x {size[0]} pixels are too many for a network: at most {MAX_PIXELS}")
        return size

    @model_validator(mode="after")
    def _fits_colour(self) -> Preprocessing:
        for name, colours in _OF_DEPTH.items():
            if (getattr(self, name) is not None) != (self.colour in colours):
                raise ValueError(f"the input is {self.colour}, and what it says of {name} does not fit")
        if self.keeps_depth and self.alignment is not None:
            raise ValueError(f"parts in {self.colour} images cannot be laid onto a golden one")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is seldom set, and is not: such manifests are what they were."""
        return {name: value for name, value in plain(self).items() if value is not None or name not in _SELDOM}


_OF_DEPTH = {"grey16": ("grey16",), "relief": ("relief", "rgb_relief")}
_SELDOM = (*_OF_DEPTH, "mm_per_pixel")


class TensorInput(Section):
    """What the graph is given: the plane of a frame that its input `name` takes, and how that is prepared.

    For an input of `rgb_relief` that is the plane of the heights; the colours beside them are taken with it.

    `clip` is the number of frames that one run takes.
    """

    name: str = "image"
    plane: str = "image"
    clip: Literal[1] = 1
    preprocessing: Preprocessing

    @model_validator(mode="after")
    def _fits_plane(self) -> TensorInput:
        if self.preprocessing.keeps_depth != (self.plane == VALUES):
            raise ValueError(f"the plane {self.plane!r} is not what an input of {self.preprocessing.colour} is made of")
        return self
