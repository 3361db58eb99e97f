"""Images of a lesson: parts that people marked good, and as its test all those that they marked bad."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import SettingsError
from edgead.site.schema import PipelineSection

if TYPE_CHECKING:
    from edgead.evidence import EvidenceStore

MAX_PARTS = 200
_FRAMES = ("frame.png", "frame.jpg")


def good_images(store: EvidenceStore, pipeline: str, section: PipelineSection, ids: Sequence[str]) -> list[Path]:
    """Find the images of the parts that are chosen.

    Raises
    ------
    SettingsError
        One is not marked good, was judged by the model of a recipe, or has no image.
    """
    if len(ids) > MAX_PARTS:
        raise SettingsError(f"{len(ids)} parts are chosen: teach at most {MAX_PARTS} at a time")
    paths = []
    for id in dict.fromkeys(ids):
        record = store.verdict(id, pipeline=pipeline)
        if record is None or (record["mark"] or {}).get("verdict") != "good":
            raise SettingsError(f"{id}: no part of {pipeline} with that id is marked good")
        if record["recipe"] in section.recipes:
            raise SettingsError(f"{id}: was judged by the model of the recipe {record['recipe']}, not by this one")
        path = _image(store, id, pipeline)
        if path is None:
            raise SettingsError(f"{id}: the store keeps no image of it")
        paths.append(path)
    return paths


def bad_images(store: EvidenceStore, pipeline: str, section: PipelineSection) -> list[Path]:
    """Find the images of the newest parts that are marked bad, but for those of other models."""
    marked = store.verdicts(pipeline=pipeline, mark="bad", limit=MAX_PARTS)
    own = (record["id"] for record in marked if record["recipe"] not in section.recipes)
    return [path for id in own if (path := _image(store, id, pipeline))]


def _image(store: EvidenceStore, id: str, pipeline: str) -> Path | None:
    found = (store.image(id, name, pipeline=pipeline) for name in _FRAMES)
    return next((path for path in found if path), None)
