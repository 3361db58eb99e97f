"""Layout of YOLO (Ultralytics): data.yaml, folders of images, and a text file of boxes or polygons for each image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import TEST, TRAIN, UNSPLIT, VALIDATION, LabelledImage
from edgead.dataset.layouts.kinds import annotated
from edgead.dataset.layouts.place import DataSetPath, Real, checked, read_text
from edgead.dataset.masks import Corners, Draw, box_corners, fill_polygon
from edgead.images.files import is_image_path, natural_key

_FILES = ("data.yaml", "dataset.yaml", "classes.txt")
_BOX = 4  # numbers of a box: middle, width, height; polygons have two a corner, at least three corners
_NUMBERS = TypeAdapter(list[Real])


class _Data(BaseModel):
    path: str = ""
    train: str | list[str] | None = None
    val: str | list[str] | None = None
    test: str | list[str] | None = None
    names: dict[int, str] | list[str]


def read_yolo(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read a data.yaml, or the folder that holds it or classes.txt; `val` is tested if there is no `test`.

    Follows https://docs.ultralytics.com/datasets/detect and .../segment: `labels` instead of the last `images` in an
    image's path leads to its labels. An image whose labels are empty or missing is good. With one folder alone, or with
    none named (then it is `images`, as from supervision and Label Studio), images have no split.
    """
    named = (place.path / name for name in _FILES)
    file = place.file(".yaml", ".yml") or next((path for path in named if path.is_file()), None)
    if file is None:
        return None
    try:
        text = read_text(file)
        content = {"names": text.splitlines()} if file.suffix == ".txt" else yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DatasetError(f"{file} is no YAML ({error})") from error
    needed = {"names"} if (file.parent / "labels").is_dir() else {"names", "train"}
    if not isinstance(content, dict) or not content.keys() >= needed:
        return None
    return _images(place, file, checked(content, _Data, file))


def _images(place: DataSetPath, file: Path, data: _Data) -> list[LabelledImage]:
    splits: Sequence[tuple[str, str | list[str] | None]]
    splits = ((TRAIN, data.train), (VALIDATION if data.test else TEST, data.val), (TEST, data.test))
    given = [part for _, part in splits if part] or ["images"]
    if all(part == given[0] for part in given):
        splits = ((UNSPLIT, given[0]),)
    names = dict(enumerate(data.names)) if isinstance(data.names, list) else data.names
    found, labelled = [], False
    for split, parts in splits:
        for part in [parts] if isinstance(parts, str) else parts or []:
            for path in _listed(place, file, data.path, part):
                labels = _labels_of(path)
                marks = list(_marks(labels, names)) if labels.is_file() else []
                labelled |= labels.is_file()
                found.append(annotated(path, marks, None, labels, split))
    if not labelled:
        first = f", {_labels_of(found[0].path)} first" if found else ""
        raise DatasetError(f"none of {len(found)} images has a file of labels{first}")
    return found


def _listed(place: DataSetPath, file: Path, root: str, part: str) -> list[Path]:
    """List the images of a folder, or the images that a text file names."""
    bases = [file.parent] if Path(root).is_absolute() else [file.parent / root, file.parent]
    where = place.find(part.replace("\\", "/").removeprefix("../"), file, bases, by_end=True)
    if where.is_dir():
        return sorted(filter(is_image_path, where.rglob("*")), key=natural_key)
    lines = (line.strip() for line in read_text(where).splitlines())
    return [place.find(line, where, [where.parent, *bases], by_end=True) for line in lines if line]


def _labels_of(image: Path) -> Path:
    before, images, after = image.as_posix().rpartition("/images/")
    return Path(f"{before}/labels/{after}" if images else image).with_suffix(".txt")


def _marks(file: Path, names: dict[int, str]) -> Iterator[tuple[str, Draw | None]]:
    for number, line in enumerate(read_text(file).splitlines(), 1):
        label, *cells = line.split() or [""]
        if not label:
            continue
        try:
            numbers = _NUMBERS.validate_python(cells)
        except ValidationError:
            numbers = []
        if not label.isdecimal() or int(label) not in names:
            raise DatasetError(f"line {number} of {file} is of class {label}: data.yaml names {len(names)}")
        if len(numbers) != _BOX and (len(numbers) < 6 or len(numbers) % 2):
            raise DatasetError(f"line {number} of {file} has {len(cells)} values: a box has 4, a polygon 6 or more")
        yield names[int(label)], partial(_fill, numbers=numbers)


def _fill(canvas: np.ndarray, numbers: Sequence[float]) -> None:
    """Fill a box or polygon whose places are shares of the image's width and height."""
    height, width = canvas.shape
    corners: Corners = list(zip(numbers[::2], numbers[1::2], strict=True))
    if len(numbers) == _BOX:
        (x, y), (across, down) = corners
        corners = box_corners(x - across / 2, y - down / 2, across, down)
    fill_polygon(canvas, [(x * width, y * height) for x, y in corners])
