"""Manifest sections for the inputs of a graph: the plane of a frame that it takes, and its preprocessing."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from edgead.artifact.strict_section import StrictSection
from edgead.artifact.tiling import Region, Tiling
from edgead.types import VALUES

MAX_PIXELS = 1 << 24  # of the network's input

PositiveInt = Annotated[int, Field(gt=0)]
_Side = Annotated[int, Field(gt=0, le=8192)]
_FrameSide = Annotated[int, Field(gt=0, le=65_535)]
_Place = Annotated[int, Field(ge=0, le=65_535)]


class Ignored(StrictSection):
    """Areas of a frame that are never judged: polygons of corners (x, y) in pixels, filled by the even-odd rule.

    `frame_size` is the height and width of the frames to which these coordinates belong.
    """

    frame_size: tuple[_FrameSide, _FrameSide]
    polygons: Annotated[
        tuple[Annotated[tuple[tuple[_Place, _Place], ...], Field(min_length=1)], ...],
        Field(min_length=1, max_length=10_000),
    ]


class Alignment(StrictSection):
    """Golden image that each part is registered with, before the region of interest is cropped.

    `look` is the golden image, small and grey, as a PNG in base64. A part counts as not found if its best correlation
    is below `least_correlation`.
    """

    frame_size: tuple[_FrameSide, _FrameSide]
    look: Annotated[str, Field(max_length=200_000)]
    least_correlation: Annotated[float, Field(ge=0, le=1)] = 0.5


Colour = Literal["rgb", "grey16", "relief", "rgb_relief"]
_Value = Annotated[float, Field(ge=-3.5e38, le=3.5e38)]
_PositiveMm = Annotated[float, Field(gt=0, le=1e9)]


class Range(StrictSection):
    """Grey values that are mapped linearly to 0 and 255 for the network; values outside are not clipped."""

    low: _Value
    high: _Value

    @model_validator(mode="after")
    def _ascends(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"the range of grey values goes from {self.low:g} to {self.high:g}, which is none")
        return self


class Relief(StrictSection):
    """Conversion of heights into the network's channels; see `edgead.artifact.relief`.

    Heights of `height_mm` above and below the surroundings (a Gaussian mean of `sigma_px`) become 255 and 0; so do
    slopes of `slope_mm` per pixel up and down. Pixels are those of the network's input. The value `invalid`, NaN and
    infinity are holes.
    """

    mm_per_count: _PositiveMm
    height_mm: _PositiveMm
    slope_mm: _PositiveMm
    sigma_px: Annotated[float, Field(gt=0, le=8192)]
    invalid: Literal[0] = 0


class Preprocessing(StrictSection):
    """Settings by which a frame becomes the network's input; see `edgead.artifact.preprocess`.

    A frame of other proportions than `image_size` is stretched, or keeps its proportions and is padded by reflection.
    With `tiles` the frame, or its region `roi`, is cut into tiles, each of which is one input. `mm_per_pixel`
    of the frame, at the distance of the part, gives the size of boxes in mm.
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
        """Whether the input has values at full depth (uint16 or float32), alone or beside colours; else it is 8-bit."""
        return self.colour != "rgb"

    @property
    def channels(self) -> int:
        """Number of channels of the network's input: three, or six (three of the colours and three of the relief)."""
        return 6 if self.colour == "rgb_relief" else 3

    @property
    def dtype(self) -> str:
        """Data type of the network's input: uint8, or float32 where the full depth is kept."""
        return "float32" if self.keeps_depth else "uint8"

    def region(self, shape: tuple[int, ...]) -> Region:
        """Region of interest of a frame of shape (H, W) or (H, W, 3); the whole frame if none is set."""
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
        """Omit optional fields that are not set, so that manifests without them keep their bytes and hashes."""
        return {name: value for name, value in plain(self).items() if value is not None or name not in _SELDOM}


_OF_DEPTH = {"grey16": ("grey16",), "relief": ("relief", "rgb_relief")}
_SELDOM = (*_OF_DEPTH, "mm_per_pixel")


class TensorInput(StrictSection):
    """One input of the graph: its `name`, the plane of a frame that it takes, and the preprocessing of that plane.

    For an input of `rgb_relief`, `plane` is the plane of the heights; the colours of the same pair are read with it.

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
