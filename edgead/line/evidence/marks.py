"""Marks of people on parts: good or bad, whatever the verdict. Frames of marked parts are kept without loss."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, update

from edgead.line.evidence.access import Access
from edgead.line.evidence.database import EvidenceError
from edgead.line.evidence.folder import LOSSLESS, ImageFolder, lossless_name
from edgead.line.evidence.images_within_quota import ImageKeeper
from edgead.line.evidence.recent import RecentFrames
from edgead.line.evidence.records import mark_of, one
from edgead.line.evidence.tables import marks, verdicts
from edgead.types import Opinion


class Marks:
    """Marks of an evidence store; safe from any thread."""

    def __init__(self, access: Access, folder: ImageFolder, images: ImageKeeper, recent: RecentFrames):
        self._access, self._folder, self._images, self._recent = access, folder, images, recent

    def mark(self, id: str, opinion: Opinion, *, by: str, note: str = "", pipeline: str | None = None) -> bool:
        """Mark a part as good or bad; a second mark replaces the first.

        Returns true if the frame is kept without loss. False if the frame is no longer in memory, or cannot be written:
            `problems` of the store says why.
        Raises EvidenceError: there is no such record, or the database cannot be written.
        """
        return self._mark(self._row(id, pipeline), opinion, by, note, f"mark_{opinion}")

    def mark_false_reject(self, id: str, *, by: str, note: str = "", pipeline: str | None = None) -> bool:
        """Mark a part with the decision reject or review as good; see `mark`.

        Raises EvidenceError: there is no such record, its part was found good, or the database cannot be written.
        """
        row = self._row(id, pipeline)
        if row.decision == "ok":
            raise EvidenceError(f"{id}: was found good, so it is no false reject")
        return self._mark(row, "good", by, note, "mark_false_reject")

    def take_back(self, id: str, *, by: str, pipeline: str | None = None) -> None:
        """Remove a mark; images kept because of it stay.

        Raises EvidenceError: there is no such record, it has no mark, or the database cannot be written.
        """
        with self._access.writing() as connection:
            row = connection.execute(one(id, pipeline)).first()
            if row is None or row.marked_at is None:
                raise EvidenceError(f"{id}: {'there is no such record' if row is None else 'nobody marked it'}")
            connection.execute(delete(marks).where(marks.c.id == id, marks.c.pipeline == row.pipeline))
            self._audit(connection, row, by, "take_back_mark", {"id": id})

    def _row(self, id: str, pipeline: str | None) -> Row:
        # Only read: no transaction stays open while an image is written.
        with self._access.reading() as connection:
            row = connection.execute(one(id, pipeline)).first()
        if row is None:
            raise EvidenceError(f"{id}: there is no such record")
        return row

    def _mark(self, row: Row, opinion: Opinion, by: str, note: str, action: str) -> bool:
        id = row.id
        place, lossless = self._keep(id, row.folder)
        mine = (marks.c.id == id, marks.c.pipeline == row.pipeline)
        mark = {"id": id, "pipeline": row.pipeline, "at": self._access.now(), "by": by, "note": note}
        if lossless and (row.mark_verdict, row.marked_by, row.mark_note) == (opinion, by, note):
            return lossless  # it is recorded already
        with self._access.writing() as connection:
            connection.execute(delete(marks).where(*mine))
            connection.execute(marks.insert().values(verdict=opinion, **mark))
            if place != row.folder:
                connection.execute(update(verdicts).where(verdicts.c.seq == row.seq).values(folder=place))
            after = {"id": id, "note": note, "verdict": opinion}
            self._audit(connection, row, by, action, after)
        return lossless

    def _keep(self, id: str, place: str | None) -> tuple[str | None, bool]:
        """Write the frame without loss; return the verdict's folder, and whether the lossless frame is kept."""
        if place is not None and any(self._folder.path(place, name) for name in LOSSLESS):
            return place, True
        image = self._recent.find(id)
        if image is None:
            return place, False
        chosen = place or self._folder.place(id)
        if chosen is None or not self._images.keep_now(chosen, lossless_name(image), image):
            return place, False
        return chosen, True

    def _audit(self, connection: Connection, row: Row, by: str, action: str, after: Any) -> None:
        before = mark_of(row)
        change = {"before": before and {"id": row.id, **before}, "after": after}
        self._access.add_audit(connection, by=by, action=action, pipeline=row.pipeline, **change)
