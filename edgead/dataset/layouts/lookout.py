"""Manifests of Amazon Lookout for Vision and SageMaker Ground Truth: a JSON line for each image, with local copies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import GOOD, UNLABELLED, UNSPLIT, LabelledImage
from edgead.dataset.layouts.place import DataSetPath, read_text
from edgead.dataset.masks import Mask, add_file

_CLASSES = {"normal": GOOD, "anomaly": "anomaly"}
# The colour of BACKGROUND "is always #ffffff".
_BACKGROUND = (255, 255, 255)


def read_lookout(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read a manifest file; s3://BUCKET/KEY stands for the file below its folder that shares the longest end with KEY.

    Follows "Defining JSON lines for anomaly classification" and "... for image segmentation" of the developer guide
    (awsdocs/amazon-lookout-for-vision-developer-guide, doc_source/manifest-file-*.md): attributes may have any name,
    and are recognised by the type in their metadata.
    """
    file = place.file(".manifest", ".jsonl")
    return None if file is None else _images(place, file)


def _images(place: DataSetPath, file: Path) -> Iterator[LabelledImage]:
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"line {number} of {file} is no JSON ({error})") from error
        if not isinstance(content, dict) or not isinstance(content.get("source-ref"), str):
            raise DatasetError(f"line {number} of {file} has no source-ref: each names its image so")
        yield _image(place, file, number, content)


def _image(place: DataSetPath, file: Path, number: int, content: dict[str, Any]) -> LabelledImage:
    path = place.find(content["source-ref"], file)
    of_type = {
        str(value.get("type")): (name.removesuffix("-metadata"), value)
        for name, value in content.items()
        if name.endswith("-metadata") and isinstance(value, dict)
    }
    _, label = of_type.get("groundtruth/image-classification", ("", {}))
    kind = _CLASSES.get(str(label.get("class-name")))
    if kind is None:
        return LabelledImage(path, UNLABELLED, None, UNLABELLED)
    name, colours = of_type.get("groundtruth/semantic-segmentation", ("", {}))
    if kind == GOOD or not name:
        return LabelledImage(path, kind, None, UNSPLIT)
    if not isinstance(content.get(name), str) or not isinstance(colours.get("internal-color-map"), dict):
        raise DatasetError(f"line {number} of {file} needs {name} and an internal-color-map in {name}-metadata")
    mask = place.find(content[name], file)
    return LabelledImage(
        path, kind, Mask(mask, (partial(add_file, file=mask, background=_BACKGROUND),), files=(mask,)), UNSPLIT
    )
