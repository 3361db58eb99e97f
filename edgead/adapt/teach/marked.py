"""The parts that people marked as good or bad, as an evidence store keeps their images."""

from __future__ import annotations

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
_NAMES = ("frame.png", "frame.tiff", "frame.jpg")


@dataclass(frozen=True, slots=True)
class Marked:
    """Images of marked parts, newest first.

    Attributes
    ----------
    good, bad : list of Path
        As they were captured where the store has them so, else its JPEGs.
    lossy : int
        How many of all are JPEGs: what they show differs a little from what the line judges.
    missing : int
        Marked parts of which there is no image.
    """

    good: list[Path] = field(default_factory=list)
    bad: list[Path] = field(default_factory=list)
    lossy: int = 0
    missing: int = 0

    def notes(self) -> list[str]:
        """What a person should know of these images."""
        notes = []
        if self.lossy:
            notes.append(
                f"{self.lossy} marked parts are JPEGs, marked after their frames had left the memory: mark sooner, or "
                "let `store.recent` in the site file hold more"
            )
        if self.missing:
            notes.append(f"{self.missing} marked parts have no image in the store")
        return notes


def marked_parts(folder: Path, url: str | None, since: timedelta | None, pipeline: str | None) -> Marked:
    """Find the images of marked parts.

    Parameters
    ----------
    folder : Path
        Of the store.
    url : str, optional
        SQLAlchemy URL of its database, where it is not in the folder.
    since : timedelta, optional
        Only what was judged so long before now.
    pipeline : str, optional
        Only what this one judged. Without it, only one may have marked parts.

    Raises
    ------
    SettingsError
        There is no store, or parts of several pipelines are marked.
    EvidenceError
        It cannot be read.
    """
    from edgead.line.evidence.folder import ImageFolder
    from edgead.line.evidence.records import Records, opened_store

    found: dict[Opinion, list[Path]] = {"good": [], "bad": []}
    lossy = missing = 0
    pipelines = set()
    after = None if since is None else datetime.now(timezone.utc) - since
    images = ImageFolder(folder / "pictures")
    with opened_store(folder, url) as access:
        for opinion in found:
            for record, place in _marked(Records(access), opinion, pipeline, after):
                pipelines.add(record["pipeline"])
                paths = [path for name in _NAMES if place and (path := images.path(place, name))]
                found[opinion] += paths[:1]
                missing += not paths
                lossy += bool(paths) and paths[0].name == _NAMES[-1]
    if len(pipelines) > 1:
        named = ", ".join(sorted(pipelines))
        raise SettingsError(f"parts of {named} are marked: say with --pipeline for which of them the model judges")
    return Marked(found["good"], found["bad"], lossy, missing)


def twins(paths: list[Path]) -> list[Path]:
    """Other images of the same frames: what is learnt from one is known of the other."""
    others = (path.with_name(name) for path in paths if path.name in _NAMES for name in _NAMES if name != path.name)
    return [path for path in others if path.is_file()]


def _marked(
    records: Records, opinion: Opinion, pipeline: str | None, after: datetime | None
) -> Iterator[tuple[dict[str, Any], str | None]]:
    before: str | None = None
    while page := records.newest(mark=opinion, pipeline=pipeline, before_id=before, limit=_PAGE):
        for record, place in page:
            if after is None or datetime.fromisoformat(record["judged_at"]) >= after:
                yield record, place
        before = page[-1][0]["id"]
