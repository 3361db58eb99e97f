"""The rejects that an evidence store keeps images of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.line.evidence.records import Records

_PAGE = 1000
_FRAMES = ("frame.png", "frame.tiff", "frame.jpg")  # as it was judged, where that is kept
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([mhdw])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def read_span(text: str) -> timedelta:
    """Read a span of time such as 7d, 12h or 30m; raises SettingsError for others."""
    match = _SPAN.fullmatch(text.strip())
    if not match:
        raise SettingsError(f"{text!r} is no span of time: write 30m, 12h, 7d or 2w")
    return float(match[1]) * _UNITS[match[2]]


def kept_rejects(folder: Path, url: str | None, since: timedelta) -> list[Path]:
    """Images of what was rejected or sent to review, newest first; the store is read alone.

    Parameters
    ----------
    folder : Path
        Of the store: its images, and its database where `url` names no other.
    url : str, optional
        SQLAlchemy URL of the database.
    since : timedelta
        How far back from now.

    Raises
    ------
    SettingsError
        There is no store, or it keeps no such image.
    EvidenceError
        It cannot be read.
    """
    from edgead.line.evidence.folder import ImageFolder
    from edgead.line.evidence.records import Records, opened_store

    images, after = ImageFolder(folder / "pictures"), datetime.now(timezone.utc) - since
    with opened_store(folder, url) as access:
        places = list(_rejects(Records(access), after))
    kept = ((images.path(place, name) for name in _FRAMES) for place in places)
    found = [path for each in kept if (path := next(filter(None, each), None))]
    if not found:
        raise SettingsError(
            f"{folder} keeps no image of a reject or review of that time: see `evidence` in the section `store` of the "
            "site file, or go further back"
        )
    return found


def _rejects(records: Records, after: datetime) -> Iterator[str]:
    """Places of the images of what was judged after an instant, page by page."""
    before: str | None = None
    while page := records.newest(before_id=before, limit=_PAGE):
        for record, place in page:
            if datetime.fromisoformat(record["judged_at"]) < after:
                return
            if record["decision"] != "ok" and place is not None:
                yield place
        before = page[-1][0]["id"]
