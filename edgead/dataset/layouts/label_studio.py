"""Layout of Label Studio's export "JSON", a list of tasks, beside the images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, unquote

from pydantic import BaseModel, Field

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import UNLABELLED, UNSPLIT, LabelledImage
from edgead.dataset.layouts.kinds import annotated
from edgead.dataset.layouts.place import DataSetPath, Length, Real, checked, split_url
from edgead.dataset.masks import Draw, add_brush, box_corners, ellipse_corners, fill_polygon, turned
from edgead.images.files import is_image_path

# The name of an uploaded file is preceded by eight hexadecimal digits.
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
_BASES = ("", "images")
_NEEDED = {
    "choices": {"choices"},
    "brushlabels": {"brushlabels", "rle"},
    "polygonlabels": {"polygonlabels", "points"},
    "rectanglelabels": {"rectanglelabels", "x", "y", "width", "height"},
    "ellipselabels": {"ellipselabels", "x", "y", "radiusX", "radiusY"},
}
"""Types of results that are read, with the keys that the value of each must have."""
Byte = Annotated[int, Field(ge=0, le=255)]


class _Value(BaseModel):
    x: Real = 0.0
    y: Real = 0.0
    width: Real = 0.0
    height: Real = 0.0
    radiusX: Real = 0.0
    radiusY: Real = 0.0
    rotation: Real = 0.0
    points: list[tuple[Real, Real]] = []
    rle: list[Byte] = []
    choices: list[str] = []
    brushlabels: list[str] = []
    polygonlabels: list[str] = []
    rectanglelabels: list[str] = []
    ellipselabels: list[str] = []


class _Result(BaseModel):
    type: str
    value: _Value
    original_width: Length | None = None
    original_height: Length | None = None
    image_rotation: Literal[0] = 0


class _Annotation(BaseModel):
    result: list[_Result]
    was_cancelled: bool = False


class _Task(BaseModel):
    data: dict[str, Any]
    annotations: list[_Annotation]


def read_label_studio(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read tasks whose images were labelled by brush, polygon, rectangle, ellipse, or choices for the whole image.

    Follows https://labelstud.io/guide/task_format and https://labelstud.io/tags: places and sizes are in percent of the
    image, rotations clockwise, of a rectangle about its upper left corner. A task without an annotation is not used, an
    annotation without a result means a good image. Images are beside the file, or in `images`, under their name in the
    task, or before the upload.
    """
    file = place.file(".json")
    if file is None or not isinstance(tasks := place.json(file), list):
        return None
    return (
        _image(place, file, number, checked(task, _Task, f"{file}, task {number}")) for number, task in enumerate(tasks)
    )


def _image(place: DataSetPath, file: Path, number: int, task: _Task) -> LabelledImage:
    path = _path(place, file, number, task)
    done = [annotation for annotation in task.annotations if not annotation.was_cancelled]
    if not done:
        return LabelledImage(path, UNLABELLED, None, UNLABELLED)
    if len(done) > 1:
        raise DatasetError(f"{file}, task {number}: {len(done)} annotations of {path.name}: keep the one that counts")
    marks: list[tuple[str, Draw | None]] = []
    size = None
    for result in done[0].result:
        missing = _NEEDED.get(result.type, {""}) - result.value.model_fields_set
        if missing:
            lacks = f"has no {', '.join(sorted(missing))}" if "" not in missing else f"is none of {', '.join(_NEEDED)}"
            raise DatasetError(f"{file}, task {number}: a result {result.type} {lacks}")
        labels = getattr(result.value, result.type)
        if result.type == "choices":
            marks += [(label, None) for label in labels]
            continue
        if result.original_width is None or result.original_height is None:
            raise DatasetError(f"{file}, task {number}: a result {result.type} has no original_width and _height")
        size = result.original_height, result.original_width
        draw = _draw(result, size)
        marks += [(label, draw) for label in labels]
    return annotated(path, marks, size, file, UNSPLIT)


def _path(place: DataSetPath, file: Path, number: int, task: _Task) -> Path:
    where = f"{file}, task {number},"
    names = [name for value in task.data.values() if is_image_path(name := _named(value, where))]
    if len(names) != 1:
        raise DatasetError(f"{file}, task {number}: data must name one image, found {len(names)}")
    bases = [place.folder / base for base in _BASES]
    path = place.find(names[0], file, bases, by_end=True)
    if path.is_file():
        return path
    folder, slash, own = names[0].rpartition("/")
    return place.find(f"{folder}{slash}{_UPLOADED.sub('', own, count=1)}", file, bases, by_end=True)


def _named(value: object, where: str) -> str:
    """Extract the image's name from a value: /data/local-files/?d=NAME, /data/upload/PROJECT/NAME, a URL or a name."""
    if not isinstance(value, str) or not ("://" in value or value.startswith("/data/")):
        return str(value)
    parts = split_url(value, where)
    return parse_qs(parts.query).get("d", [unquote(parts.path)])[0]


def _draw(result: _Result, size: tuple[int, int]) -> Draw:
    value, (height, width) = result.value, size
    across, down = width / 100, height / 100
    if result.type == "brushlabels":
        return partial(add_brush, packed=bytes(value.rle))
    if result.type == "polygonlabels":
        if len(value.points) < 3:
            raise DatasetError(f"a polygon of {len(value.points)} points")
        return partial(fill_polygon, corners=[(x * across, y * down) for x, y in value.points])
    corner = value.x * across, value.y * down
    if result.type == "rectanglelabels":
        corners = box_corners(*corner, value.width * across, value.height * down)
    else:
        corners = ellipse_corners(*corner, value.radiusX * across, value.radiusY * down)
    return partial(fill_polygon, corners=turned(corners, corner, value.rotation))
