"""Annotations in the formats of COCO and Datumaro, which share runs of pixels: JSON files beside the images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import UNSPLIT, LabelledImage
from edgead.dataset.layouts.kinds import annotated, split_of
from edgead.dataset.layouts.place import DataSetPath, Length, Real, refuse_bare
from edgead.dataset.masks import Draw, box_corners, coco_counts, fill_polygon, fill_runs

_ROBOFLOW = "_annotations.coco.json"
_LOOKED_AT = 10  # JSON files of a folder: of other programs there may be one for each image
_MIN_NUMBERS = 6  # numbers of a polygon with three corners
_Box = tuple[Real, Real, Real, Real]


class _Runs(BaseModel):
    counts: list[int] | str
    size: tuple[Length, Length]


class _Image(BaseModel):
    id: int | str
    file_name: str
    height: Length
    width: Length


class _Annotation(BaseModel):
    image_id: int | str
    category_id: int
    segmentation: list[list[Real]] | _Runs = []
    bbox: _Box | None = None


class _Category(BaseModel):
    id: int
    name: str


class _Coco(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class _Label(BaseModel):
    name: str


class _Labels(BaseModel):
    labels: list[_Label]


class _Categories(BaseModel):
    label: _Labels


class _Shape(BaseModel):
    type: str = "label"  # as anomalib reads it
    label_id: int
    points: list[Real] = []
    bbox: _Box | None = None
    rle: _Runs | None = None


class _Media(BaseModel):
    path: str
    size: tuple[Length, Length] | None = None


class _Item(BaseModel):
    image: _Media
    annotations: list[_Shape] = Field(default=[])


class _Datumaro(BaseModel):
    categories: _Categories
    items: list[_Item]


def read_coco(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read COCO's instances: polygons, runs of pixels or, without either, boxes. Images without annotations are good.

    Follows https://cocodataset.org/#format-data. The place is such a file, or a folder with annotations/*.json named by
    split, as from COCO and CVAT; or with train/, valid/ and test/ with a `_annotations.coco.json` in each, as from
    Roboflow; or with such a file beside the images, which then lists all, or beside `images`, as from Label Studio, or
    `data`, as from FiftyOne.
    """
    files = _files(place, "images", "annotations", "categories")
    if files is None:
        return None
    images = [image for file in files for image in _of_coco(place, file)]
    if any(file.parent == place.path for file in files):
        refuse_bare(image.path for image in images)
    return images


def read_datumaro(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read Datumaro's JSON: labels of whole images, polygons, boxes and masks; annotations/SUBSET.json, images/SUBSET.

    Follows `_SubsetWriter` of cvat-ai/datumaro, datumaro/plugins/datumaro_format/converter.py.
    """
    files = _files(place, "categories", "items")
    return None if files is None else (image for file in files for image in _of_datumaro(place, file))


def _files(place: DataSetPath, *keys: str) -> list[Path] | None:
    """Find the JSON files of a place that have these keys; None if there are none."""
    if file := place.file(".json"):
        return [file] if place.is_json(file, *keys) else None
    if not place.path.is_dir():
        return None
    found = sorted([*place.path.glob("annotations/*.json"), *place.path.glob(f"*/{_ROBOFLOW}")])
    beside = sorted(place.path.glob("*.json"))[:_LOOKED_AT]
    own = [file for file in found if place.is_json(file, *keys)]
    return [*own, *(file for file in beside if place.may_be(file, *keys))] or None


def _where(place: DataSetPath, file: Path) -> tuple[str, list[Path], Path]:
    """Return a file's split, the folders its image names may be relative to, and the folder its images must be in."""
    subset = file.stem.removeprefix("instances_")
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    bases = [base / name for base in (file.parent, root) for name in ("", "images", f"images/{subset}", subset, "data")]
    is_one = file == place.path
    of_folder = "" if file.parent == place.path else file.parent.name
    return UNSPLIT if is_one else split_of(file.stem, of_folder), bases, root if is_one else place.folder


def _of_coco(place: DataSetPath, file: Path) -> Iterator[LabelledImage]:
    coco = place.read(file, _Coco)
    split, bases, root = _where(place, file)
    names = {category.id: category.name for category in coco.categories}
    marks: dict[int | str, list[tuple[str, Draw | None]]] = {image.id: [] for image in coco.images}
    if len(marks) < len(coco.images):
        raise DatasetError(f"{file} gives the same id to several images")
    for one in coco.annotations:
        if one.image_id not in marks or one.category_id not in names:
            raise DatasetError(
                f"{file} has an annotation of image {one.image_id} and category {one.category_id}: no such"
            )
        draws = _drawn(one.segmentation, one.bbox, file)
        marks[one.image_id] += [(names[one.category_id], draw) for draw in draws]
    for image in coco.images:
        name = image.file_name.replace("\\", "/")
        up = name.startswith("../")  # Label Studio's name of it, in the folder of its server
        path = place.find(name.lstrip("./") if up else name, file, bases, root, by_end=up)
        yield annotated(path, marks[image.id], (image.height, image.width), file, split)


def _of_datumaro(place: DataSetPath, file: Path) -> Iterator[LabelledImage]:
    content = place.read(file, _Datumaro)
    split, bases, root = _where(place, file)
    names = [label.name for label in content.categories.label.labels]
    for item in content.items:
        marks: list[tuple[str, Draw | None]] = []
        for shape in item.annotations:
            if not 0 <= shape.label_id < len(names):
                raise DatasetError(f"{file} names label {shape.label_id} of {len(names)}, for {item.image.path}")
            shapes = {"label": [], "bbox": shape.bbox and [], "polygon": [shape.points], "mask": shape.rle}
            if (drawn := shapes.get(shape.type)) is None:
                raise DatasetError(
                    f"{file} marks {item.image.path} by a {shape.type}: label, polygon, bbox and mask are read"
                )
            marks += [(names[shape.label_id], draw) for draw in _drawn(drawn, shape.bbox, file)]
        yield annotated(place.find(item.image.path, file, bases, root), marks, item.image.size, file, split)


def _drawn(segmentation: Sequence[Sequence[float]] | _Runs, box: _Box | None, file: Path) -> list[Draw | None]:
    if not segmentation:
        return [partial(fill_polygon, corners=box_corners(*box)) if box else None]
    if isinstance(segmentation, _Runs):
        return [partial(_fill, runs=segmentation)]
    if any(len(numbers) < _MIN_NUMBERS or len(numbers) % 2 for numbers in segmentation):
        raise DatasetError(f"{file} has a polygon of fewer than three corners")
    return [partial(fill_polygon, corners=list(zip(n[::2], n[1::2], strict=True))) for n in segmentation]


def _fill(canvas: np.ndarray, runs: _Runs) -> None:
    if runs.size != canvas.shape:
        raise ValueError(f"runs of pixels are for {runs.size}, the image is {canvas.shape} (rows, columns)")
    counts = coco_counts(runs.counts) if isinstance(runs.counts, str) else runs.counts
    fill_runs(canvas, counts)
