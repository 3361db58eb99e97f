"""Export of evidence as annotated images in the formats of COCO and YOLO, for annotation tools and `edgead eval`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml
from sqlalchemy import Row

from edgead.dataset.layouts.kinds import GOOD_NAMES, UNPLACED
from edgead.images.header import image_size
from edgead.line.evidence.folder import ImageFolder
from edgead.line.evidence.production.counts import QueryBudget
from edgead.line.evidence.production.export import Export, Progress, Write, exported_name, pages
from edgead.line.evidence.production.formats import Annotations
from edgead.line.evidence.tables import verdicts
from edgead.types import scaled_score

ANNOTATIONS = "annotations/instances_default.json"
_UNSORTED = "anomaly"


def write_annotated(export: Export, write: Write, progress: Progress, *, kind: Annotations) -> int:
    """Write the kept frames, one image per verdict, then the annotations of their defects.

    A part that a person marked as good has no annotation, whatever its verdict. A part that is marked as bad, or whose
    verdict is not ok, has the boxes of its verdict. Without boxes, as for a missed defect, there is one box of the
    whole image, which annotation tools need, of a kind "... without a place". In COCO's format each image has its
    `decision`, scores, `measured` and `mark`, and `other_format` if the image does not fit the model.

    Returns the number of images written.
    Raises OSError: a file cannot be written.
    Raises EvidenceError: the database cannot be read.
    """
    assert export.images is not None
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    total, done = export.count(), 0
    for page in pages(export.access, export.wanted, QueryBudget(), verdicts.c.folder.is_not(None)):
        for row in page:
            if (image := _write_image(export.images, row, write, len(images) + 1)) is not None:
                images.append(image)
                annotations += _defects_of(row, image, categories, len(annotations) + 1)
        done += len(page)
        progress("write images", done, total)
    if kind == "yolo":
        _write_yolo(images, annotations, categories, write)
    else:
        listed = [{"id": id, "name": name} for name, id in categories.items()]
        info = {"description": "verdicts of edgead"}
        content = {"info": info, "images": images, "annotations": annotations, "categories": listed}
        write(ANNOTATIONS, [json.dumps(content, indent=1).encode()])
    return len(images)


def _write_yolo(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], categories: Mapping[str, int], write: Write
) -> None:
    """Write data.yaml, and a file of labels for each image: class, and middle and size of the box as shares."""
    lines: dict[int, list[str]] = {image["id"]: [] for image in images}
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    for one in annotations:
        width, height = sizes[one["image_id"]]
        x, y, across, down = one["bbox"]
        shares = ((x + across / 2) / width, (y + down / 2) / height, across / width, down / height)
        lines[one["image_id"]].append(" ".join([str(one["category_id"] - 1), *(f"{share:.6f}" for share in shares)]))
    for image in images:
        label = PurePosixPath("labels", image["file_name"]).with_suffix(".txt")
        write(str(label), ["".join(f"{line}\n" for line in lines[image["id"]]).encode()])
    names = {number - 1: name for name, number in categories.items()}
    data = {"train": "images", "val": "images", "names": names}  # Ultralytics takes a path "." for where it runs
    write("data.yaml", [yaml.safe_dump(data, allow_unicode=True, sort_keys=False).encode()])


def _write_image(kept: ImageFolder, row: Row, write: Write, id: int) -> dict[str, Any] | None:
    """Write a judged frame and return its COCO entry; None if retention has removed it."""
    path = kept.frame(row.folder)
    try:
        data = path.read_bytes() if path else b""
    except FileNotFoundError:
        return None
    size = image_size(data)
    if path is None or size is None:
        return None
    name = exported_name(row) + path.suffix
    write(f"images/{name}", [data])
    said = {name: getattr(row, name) for name in ("decision", "image_score", "measured")} | {"mark": row.mark_verdict}
    said["score"] = scaled_score(row.image_score, row.typical_score, row.threshold)
    said |= {} if row.other_format is None else {"other_format": row.other_format}
    at = row.captured_at.isoformat()
    return {"id": id, "file_name": name, "height": size[0], "width": size[1], "date_captured": at, **said}


def _defects_of(row: Row, image: dict[str, Any], categories: dict[str, int], first: int) -> list[dict[str, Any]]:
    if row.mark_verdict == "good" or (row.decision == "ok" and row.mark_verdict != "bad"):
        return []
    kind = row.shown_kind or _UNSORTED
    kind = kind if row.boxes else f"{kind} {UNPLACED}"  # so that nobody learns the whole part as that kind
    if kind.lower() in GOOD_NAMES:  # which readers of data sets take for no defect
        kind = f"{_UNSORTED} {kind}"
    of_kind = categories.setdefault(kind, len(categories) + 1)
    whole = {"x": 0, "y": 0, "width": image["width"], "height": image["height"], "peak": row.image_score}
    return [
        {
            "id": first + number,
            "image_id": image["id"],
            "category_id": of_kind,
            "iscrowd": 0,
            "bbox": [box["x"], box["y"], box["width"], box["height"]],
            "segmentation": [],
            "area": box["width"] * box["height"],
            "score": box["peak"],
        }
        for number, box in enumerate(row.boxes or [whole])
    ]
