"""Layout of LabelMe: a JSON file beside each image."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import LabelledImage
from edgead.dataset.layouts.kinds import annotated, split_of
from edgead.dataset.layouts.place import DataSetPath, Length, Real, refuse_bare
from edgead.dataset.masks import Draw, add_encoded, box_corners, ellipse_corners, fill_polygon
from edgead.images.files import natural_key

_LOOKED_AT = 10
_SHAPES = {"polygon": None, "rectangle": 2, "oriented_rectangle": 4, "circle": 2, "mask": 2}
"""Shapes that have an area, and the number of their points."""


class _Shape(BaseModel):
    label: str
    points: list[tuple[Real, Real]]
    shape_type: str | None = None  # missing in old files, whose shapes are polygons
    mask: str | None = None


class _File(BaseModel):
    shapes: list[_Shape]
    imagePath: str
    imageHeight: Length | None = None
    imageWidth: Length | None = None


def read_labelme(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read LabelMe's files in a folder, or in its subfolders, which may be named train and test.

    Follows `LabelFile` and `shapes_to_label` of wkentaro/labelme, labelme/_label_file.py and labelme/_utils/shape.py:
    polygons, rectangles (also rotated), circles and masks, which are encoded images within a box. An image without
    shapes is good; an image without a file was not labelled, and is refused.
    """
    if not place.path.is_dir():
        return None
    files = [*place.path.glob("*.json"), *place.path.glob("*/*.json")]
    if not any(place.may_be(file, "shapes", "imagePath") for file in files[:_LOOKED_AT]):  # damaged: reported later
        return None
    return _images(place, sorted(files, key=natural_key))


def _images(place: DataSetPath, files: list[Path]) -> Iterator[LabelledImage]:
    seen = set()
    for file in files:
        content = place.read(file, _File)
        path = place.find(content.imagePath, file, [file.parent])
        seen.add(path)
        size = None
        if content.imageHeight is not None and content.imageWidth is not None:
            size = content.imageHeight, content.imageWidth
        marks = [(shape.label, _draw(shape, file)) for shape in content.shapes]
        split = split_of(file.parent.name) if file.parent != place.path else ""
        yield annotated(path, marks, size, file, split)
    refuse_bare(seen)


def _draw(shape: _Shape, file: Path) -> Draw:
    kind, points = shape.shape_type or "polygon", shape.points
    if kind not in _SHAPES:
        raise DatasetError(f"{file} has a {kind}, which has no area: {', '.join(_SHAPES)} are read")
    if len(points) < 3 if _SHAPES[kind] is None else len(points) != _SHAPES[kind]:
        raise DatasetError(f"{file} has a {kind} of {len(points)} points")
    (x, y), (to_x, to_y) = points[:2]
    if kind == "mask":
        try:
            data = base64.b64decode(shape.mask or "", validate=True)
        except ValueError as error:
            raise DatasetError(f"{file} has a mask that is no base64 ({error})") from error
        return partial(add_encoded, data=data, x=round(x), y=round(y))
    if kind == "rectangle":
        return partial(fill_polygon, corners=box_corners(min(x, to_x), min(y, to_y), abs(to_x - x), abs(to_y - y)))
    if kind == "circle":
        radius = math.hypot(to_x - x, to_y - y)
        return partial(fill_polygon, corners=ellipse_corners(x, y, radius, radius))
    return partial(fill_polygon, corners=points)
