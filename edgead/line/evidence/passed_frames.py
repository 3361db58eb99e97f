"""Frames that went by without a verdict in time, by pipeline, minute and reason."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import Engine

from edgead.line.evidence.rows import INSERTS
from edgead.line.evidence.tables import passed_frames


class PassedFrames:
    """Counts of frames, which wait until `write` brings them into the database; safe from any thread.

    Counts are by the minute: shifts begin at whole minutes, so each frame counts in the shift that it went by in.

    `moving`: held while counts move into the database; a reader of both holds it, so that no frame counts twice.
    """

    def __init__(self, now: Callable[[], datetime]):
        self.moving = threading.Lock()
        self._lock, self._now = threading.Lock(), now
        self._waiting: Counter[tuple[str, datetime, str]] = Counter()

    def add(self, pipeline: str, frames: Mapping[str, int]) -> None:
        """Count frames of the present time, by reason; never waits for the database."""
        minute = self._now().replace(second=0, microsecond=0)
        with self._lock:
            self._waiting.update({(pipeline, minute, reason): number for reason, number in frames.items()})

    def waiting(self) -> Counter[tuple[str, datetime, str]]:
        with self._lock:
            return Counter(self._waiting)

    def write(self, engine: Engine) -> None:
        """Add the waiting counts to the counts on record; they go on waiting if the database fails."""
        with self.moving:
            if not (waiting := self.waiting()):
                return
            insert = INSERTS[engine.dialect.name](passed_frames)
            more = {"frames": passed_frames.c.frames + insert.excluded.frames}
            rows = [dict(zip(passed_frames.c.keys(), (*key, number), strict=True)) for key, number in waiting.items()]
            with engine.begin() as connection:
                connection.execute(
                    insert.on_conflict_do_update(index_elements=passed_frames.primary_key, set_=more), rows
                )
            with self._lock:
                self._waiting -= waiting
