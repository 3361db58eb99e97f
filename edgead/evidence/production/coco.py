"""Evidence as annotations: images and their defects in COCO's form, which annotation tools and `edgead eval` take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from edgead.evidence.folder import LOSSLESS, ImageFolder
from edgead.evidence.production.counts import QueryBudget
from edgead.evidence.production.export import Export, Progress, exported_name, pages
from edgead.evidence.tables import verdicts
from edgead.files.atomic import new_folder, write_whole
from edgead.images.header import image_size

ANNOTATIONS = "annotations/instances_default.json"
_UNSORTED = "anomaly"


def export_to_coco(export: Export, folder: Path, progress: Progress) -> int:
    """Write the images that are kept, one a verdict, into a new folder, and what is known of their defects.

    A part that a person marked as good has no annotation, whatever was judged. One that is marked as bad, or was not
    found ok, has the boxes of its verdict; without one it has an annotation of no place. Without a mark it is the
    model's opinion: `decision`, `image_score` and `mark` of an image say so.

    Returns
    -------
    int
        How many images were written.

    Raises
    ------
    FileExistsError
        The folder is there and not empty.
    OSError
        It cannot be written: then there is none.
    EvidenceError
        The database cannot be read.
    """
    assert export.images is not None
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    total, done = export.count(), 0
    with new_folder(folder) as draft:
        for page in pages(export.access, export.wanted, QueryBudget(), verdicts.c.folder.is_not(None)):
            for row in page:
                if (image := _write_image(export.images, row, draft / "images", len(images) + 1)) is not None:
                    images.append(image)
                    annotations += _defects_of(row, image["id"], categories, len(annotations) + 1)
            done += len(page)
            progress("write images", done, total)
        content = {
            "info": {"description": "verdicts of edgead"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": id, "name": name} for name, id in categories.items()],
        }
        write_whole(draft / ANNOTATIONS, json.dumps(content, indent=1).encode())
    return len(images)


def _write_image(kept: ImageFolder, row: Row, folder: Path, id: int) -> dict[str, Any] | None:
    """Write the image that was judged, without loss where it is kept so; None where retention has removed it."""
    found = (kept.path(row.folder, name) for name in (*LOSSLESS, "frame.jpg"))
    path = next((path for path in found if path is not None), None)
    try:
        data = path.read_bytes() if path else b""
    except FileNotFoundError:
        return None
    size = image_size(data)
    if path is None or size is None:
        return None
    name = exported_name(row) + path.suffix
    write_whole(folder / name, data)
    said = {"decision": row.decision, "image_score": row.image_score, "mark": row.mark_verdict}
    at = row.captured_at.isoformat()
    return {"id": id, "file_name": name, "height": size[0], "width": size[1], "date_captured": at, **said}


def _defects_of(row: Row, image: int, categories: dict[str, int], first: int) -> list[dict[str, Any]]:
    if row.mark_verdict == "good" or (row.decision == "ok" and row.mark_verdict != "bad"):
        return []
    of_kind = categories.setdefault(row.shown_kind or _UNSORTED, len(categories) + 1)
    common = {"image_id": image, "category_id": of_kind, "iscrowd": 0}
    if not row.boxes:
        return [{"id": first, **common, "segmentation": [], "area": 0}]
    return [
        {
            "id": first + number,
            **common,
            "bbox": [box["x"], box["y"], box["width"], box["height"]],
            "segmentation": [],
            "area": box["width"] * box["height"],
            "score": box["peak"],
        }
        for number, box in enumerate(row.boxes)
    ]
