"""What a follower must know after a restart; written atomically."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ValidationError

from edgead.files.atomic import write_whole

logger = logging.getLogger(__name__)

MOST_REFUSED = 32
_MOST_REASON = 500


class FollowRecord(BaseModel, frozen=True, extra="forbid"):
    """Digests of one pipeline.

    Attributes
    ----------
    seen : str or None
        What the tag led to when it was last dealt with; nothing is done until it leads to something else.
    current, previous : str or None
        Whose models are in service, and were before; None for the one that the site file names.
    pinned : bool
        Somebody has gone away from what the tag leads to.
    trying : str or None
        What is tested, or new in service; `starts` counts how often it was started since.
    refused : dict of str
        What will not be tried again, with the reason.
    """

    source: str = ""
    seen: str | None = None
    current: str | None = None
    previous: str | None = None
    pinned: bool = False
    trying: str | None = None
    starts: int = 0
    refused: dict[str, str] = {}
    changed_at: datetime | None = None

    def refusing(self, digest: str, reason: str) -> FollowRecord:
        refused = {**self.refused, digest: reason[:_MOST_REASON]}
        newest = dict(list(refused.items())[-MOST_REFUSED:])
        return self.model_copy(update={"seen": digest, "trying": None, "starts": 0, "refused": newest, "pinned": False})

    def serving(self, digest: str) -> FollowRecord:
        update = {"seen": digest, "previous": self.current, "current": digest, "pinned": False}
        return self.model_copy(update={**update, "changed_at": datetime.now(timezone.utc)})


def read_record(file: Path, source: str) -> FollowRecord:
    """Read the record of what follows a tag; one of another tag keeps what is in service and what is refused."""
    try:
        found = FollowRecord.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return FollowRecord(source=source)
    except (OSError, ValidationError):
        logger.warning("%s cannot be read: the model of the site file judges until the tag has been looked at", file)
        return FollowRecord(source=source)
    if found.source != source:
        return found.model_copy(update={"source": source, "seen": None, "pinned": False})
    return found


def write_record(file: Path, record: FollowRecord) -> None:
    write_whole(file, record.model_dump_json(indent=1).encode())
