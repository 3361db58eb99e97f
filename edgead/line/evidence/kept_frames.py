"""Reader of frames in an evidence store: frames of rejects, and of parts that people marked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.line.evidence.records import Records
    from edgead.types import Opinion

_PAGE = 1000
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([mhdw])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True, slots=True)
class MarkedParts:
    """Images of marked parts, newest first.

    `good`, `bad`: files of the judged frames: lossless files if the store has them, otherwise JPEGs.
    `lossy`: number of JPEGs among these files, which differ a little from the judged frames.
    `missing`: number of marked parts without an image.
    """

    good: list[Path] = field(default_factory=list)
    bad: list[Path] = field(default_factory=list)
    lossy: int = 0
    missing: int = 0

    def notes(self) -> list[str]:
        """Return notes for a person about lossy and missing images."""
        notes = []
        if self.lossy:
            notes.append(
                f"{self.lossy} marked parts are JPEGs, marked after their frames had left the memory: mark sooner, or "
                "let `store.recent` in the site file hold more"
            )
        if self.missing:
            notes.append(f"{self.missing} marked parts have no image in the store")
        return notes


def read_span(text: str) -> timedelta:
    """Parse a span of time such as 7d, 12h or 30m; raise SettingsError if it is none."""
    match = _SPAN.fullmatch(text.strip())
    if not match:
        raise SettingsError(f"{text!r} is no span of time: write 30m, 12h, 7d or 2w")
    return float(match[1]) * _UNITS[match[2]]


def kept_rejects(folder: Path, url: str | None, since: timedelta) -> list[Path]:
    """Find the images of rejects and reviews, newest first; write nothing to the store.

    `folder`: folder of the store: its images, and its database unless `url` names another.
    `url`: SQLAlchemy URL of the database.
    `since`: time before now in which the parts were judged.
    Raises SettingsError: there is no store, or it has no image of that time.
    Raises EvidenceError: the store cannot be read.
    """
    from edgead.line.evidence.folder import ImageFolder
    from edgead.line.evidence.records import Records, opened_store

    places, after = [], datetime.now(timezone.utc) - since
    with opened_store(folder, url) as access:
        for record, place in _newest(Records(access)):
            if datetime.fromisoformat(record["judged_at"]) < after:
                break
            if record["decision"] != "ok" and place is not None:
                places.append(place)
    found = list(filter(None, map(ImageFolder(folder / "pictures").frame, places)))
    if not found:
        raise SettingsError(
            f"{folder} keeps no image of a reject or review of that time: see `evidence` in the section `store` of the "
            "site file, or go further back"
        )
    return found


def marked_parts(folder: Path, url: str | None, since: timedelta | None, pipeline: str | None) -> MarkedParts:
    """Find the images of marked parts.

    `folder`: folder of the store.
    `url`: SQLAlchemy URL of the store's database, if that is not in the folder.
    `since`: time before now in which the parts were judged; without it, all times.
    `pipeline`: pipeline that judged the parts. Without it, the marked parts must be of one pipeline.
    Raises SettingsError: there is no store, or parts of several pipelines are marked.
    Raises EvidenceError: the store cannot be read.
    """
    from edgead.line.evidence.folder import FRAMES, ImageFolder
    from edgead.line.evidence.records import Records, opened_store

    found: dict[Opinion, list[Path]] = {"good": [], "bad": []}
    lossy = missing = 0
    pipelines = set()
    after = None if since is None else datetime.now(timezone.utc) - since
    images = ImageFolder(folder / "pictures")
    with opened_store(folder, url) as access:
        for opinion in found:
            for record, place in _newest(Records(access), mark=opinion, pipeline=pipeline):
                if after is not None and datetime.fromisoformat(record["judged_at"]) < after:
                    continue
                pipelines.add(record["pipeline"])
                path = images.frame(place) if place else None
                if path is None:
                    missing += 1
                else:
                    found[opinion].append(path)
                    lossy += path.name == FRAMES[-1]
    if len(pipelines) > 1:
        named = ", ".join(sorted(pipelines))
        raise SettingsError(f"parts of {named} are marked: say with --pipeline for which of them the model judges")
    return MarkedParts(found["good"], found["bad"], lossy, missing)


def _newest(records: Records, **wanted: Any) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Yield all matching records with the folders of their images, newest first."""
    before: str | None = None
    while page := records.newest(before_id=before, limit=_PAGE, **wanted):
        yield from page
        before = page[-1][0]["id"]
