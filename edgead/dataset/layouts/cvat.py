"""Layout of "CVAT for images": one XML file, with its images beside it or in a folder `images`."""

from __future__ import annotations

import xml.parsers.expat as expat
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, field_validator

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import LabelledImage
from edgead.dataset.layouts.kinds import annotated, split_of
from edgead.dataset.layouts.place import DataSetPath, Length, Real, checked, read_text
from edgead.dataset.masks import Draw, box_corners, ellipse_corners, fill_polygon, fill_runs, turned

_FILE = "annotations.xml"


class _Image(BaseModel):
    name: str
    width: Length
    height: Length
    subset: str = ""


class _Tag(BaseModel):
    label: str

    def draw(self) -> Draw | None:
        return None


class _Box(_Tag):
    xtl: Real
    ytl: Real
    xbr: Real
    ybr: Real
    rotation: Real = 0.0

    def draw(self) -> Draw:
        corners = box_corners(self.xtl, self.ytl, self.xbr - self.xtl, self.ybr - self.ytl)
        middle = (self.xtl + self.xbr) / 2, (self.ytl + self.ybr) / 2
        return partial(fill_polygon, corners=turned(corners, middle, self.rotation))


class _Ellipse(_Tag):
    cx: Real
    cy: Real
    rx: Real
    ry: Real
    rotation: Real = 0.0

    def draw(self) -> Draw:
        corners = ellipse_corners(self.cx, self.cy, self.rx, self.ry)
        return partial(fill_polygon, corners=turned(corners, (self.cx, self.cy), self.rotation))


class _Polygon(_Tag):
    points: list[tuple[Real, Real]]

    @field_validator("points", mode="before")
    @classmethod
    def split_points(cls, text: str) -> list[list[str]]:
        corners = [pair.split(",") for pair in text.split(";")]
        if len(corners) < 3:
            raise ValueError("has fewer than three corners")
        return corners

    def draw(self) -> Draw:
        return partial(fill_polygon, corners=self.points)


class _Mask(_Tag):
    rle: list[int]
    left: int
    top: int
    width: Length
    height: Length

    @field_validator("rle", mode="before")
    @classmethod
    def split_rle(cls, text: str) -> list[str]:
        return text.split(",")

    def draw(self) -> Draw:
        place = self.left, self.top, self.width, self.height
        return partial(fill_runs, counts=self.rle, place=place, by_columns=False)


_SHAPES: Mapping[str, type[_Tag]] = {
    "tag": _Tag,
    "box": _Box,
    "ellipse": _Ellipse,
    "polygon": _Polygon,
    "mask": _Mask,
}
_NO_AREA = ("polyline", "points", "cuboid", "skeleton", "track")


def read_cvat(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read a "CVAT for images 1.1" export: a folder with annotations.xml, or that file. Images without shapes are good.

    Follows https://docs.cvat.ai/docs/dataset_management/formats/format-cvat and .../xml_format; `subset` of an image is
    its split. Runs of pixels go row by row through the mask's box.
    """
    file = place.file(".xml") or (place.path / _FILE if (place.path / _FILE).is_file() else None)
    return None if file is None else _images(place, file)


def _images(place: DataSetPath, file: Path) -> Iterator[LabelledImage]:
    found: list[tuple[_Image, list[tuple[str, Draw | None]]]] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        where = f"{file}, line {parser.CurrentLineNumber}"
        if name == "image":
            found.append((checked(attributes, _Image, where), []))
        elif name in _NO_AREA and (found or name == "track"):
            raise DatasetError(f"{where}: a {name} has no area; {', '.join(_SHAPES)} are read")
        elif name in _SHAPES and found:
            shape = checked(attributes, _SHAPES[name], where)
            found[-1][1].append((shape.label, shape.draw()))

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    # Entities may expand without bound or name files: they and the document type that declares them are refused.
    parser.StartDoctypeDeclHandler = _refuse_doctype(file)
    try:
        parser.Parse(read_text(file), True)
    except expat.ExpatError as error:
        raise DatasetError(f"{file} is no XML ({error})") from error
    if not found:
        raise DatasetError(f"{file} holds no <image>")
    for image, marks in found:
        path = place.find(
            image.name, file, [file.parent / "images" / image.subset, file.parent / "images", file.parent]
        )
        yield annotated(path, marks, (image.height, image.width), file, split_of(image.subset))


def _refuse_doctype(file: Path) -> Callable[..., Any]:
    def refuse(*declared: Any) -> None:
        raise DatasetError(f"{file} declares a DOCTYPE, which CVAT does not write and edgead does not read")

    return refuse
