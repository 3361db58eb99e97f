"""Evidence store: a row for every verdict, images of some, people's marks, and an audit of changes."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from edgead.line.evidence.access import Access
from edgead.line.evidence.audit import AuditChain
from edgead.line.evidence.database import EvidenceError, StoreAwayError, close_engine, open_engine, unreachable
from edgead.line.evidence.folder import FRAMES, ImageFolder
from edgead.line.evidence.images_within_quota import ImageKeeper
from edgead.line.evidence.kinds import KindStore
from edgead.line.evidence.marks import Marks
from edgead.line.evidence.parts import PartRecords
from edgead.line.evidence.production.production import Production
from edgead.line.evidence.recent import RecentFrames
from edgead.line.evidence.records import Asked, Records
from edgead.line.evidence.rows import RowWriter
from edgead.line.evidence.settings import StoreSection
from edgead.line.evidence.tables import verdicts
from edgead.line.evidence.upkeep import Upkeep
from edgead.line.evidence.versions import begin_tables, prepare_tables
from edgead.serialization import verdict_record
from edgead.types import DECISIONS, Frame, Verdict

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

_EVIDENCE = {"none": (), "reject": ("reject",), "review": ("review", "reject"), "all": DECISIONS}
_PLACES = 1000


class EvidenceStore(Records):
    """Store of verdicts in SQLite or PostgreSQL, and of images as files.

    A row is committed when `add` returns True, and outlives the process from then on; SQLite's log is synced to the
    disk every second, so that a power failure loses at most the last second. While the database cannot be written, rows
    wait in memory and `problems` says so. No failure here stops an inspection.

    `kinds`: kinds of defects as people see and correct them.
    `parts`: verdicts of several pipelines about a part together.
    `production`: counts and yield by shift, day, order, batch and recipe; files of verdicts and images.
    `marks`: marks of people on good and bad parts.
    `recent`: newest frames, without loss.
    `audit_chain`: chain that shows whether the audit is intact.
    Raises SettingsError: the address of the database cannot be used.
    Raises EvidenceError: the database was made by a newer edgead, or cannot be opened. A full disk or a server that is
        away is no error, since it may pass; a damaged file in `folder` is set aside, and `problems` says so.
    """

    def __init__(
        self, section: StoreSection, *, now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    ) -> None:
        self._section = section
        self._now = now
        self._engine = open_engine(section)
        try:
            # No person is there to do it; a file that `url` names may be anything, and is left alone.
            self._aside = begin_tables(self._engine, may_set_aside=section.url is None)
        except EvidenceError:
            self._engine.dispose()
            raise
        self._folder = ImageFolder(section.folder / "pictures")  # as stores have it since the first version
        self._places: OrderedDict[tuple[str, str], str] = OrderedDict()
        access = Access(self._engine, now)
        super().__init__(access)
        self.kinds, self.audit_chain = KindStore(access), AuditChain(access)
        self._rows = RowWriter(self._engine, lambda: prepare_tables(self._engine))
        self.parts = PartRecords(access, self._engine, section.commit_within_ms / 1e3)
        self._figures = open_engine(section, read_only=True)
        self.production = Production(Access(self._figures, now), access, self._folder)
        self._images = ImageKeeper(section, self._folder)
        self.recent = RecentFrames(section.recent)
        self.marks = Marks(access, self._folder, self._images, self.recent)
        self._upkeep = Upkeep(
            self._engine, self._folder, section.keep_days, now, self.audit_chain.watch, self.production.passed
        )

    # Writing

    def add(self, frame: Frame, verdict: Verdict, committed: Callable[[], None] | None = None) -> bool:
        """Record a verdict, unless a verdict with the same id and pipeline is there already.

        `committed`: called in another thread once the row is committed, however late; never if it is lost.
        Returns true if the row is committed, or was there. False if it could not be written yet and waits in memory.
        """
        if not frame.id:
            raise EvidenceError("a frame without an id cannot be recorded: it comes from no source")
        return self._rows.commit(self._row(frame, verdict), self._section.commit_within_ms / 1e3, committed)

    def keep(self, frame: Frame, verdict: Verdict, before: Sequence[Frame] = ()) -> None:
        """Hold a recorded verdict's frame in memory, and queue its images if its decision keeps them; never blocks.

        `before`: the camera's frames before this frame, oldest first.
        """
        self.recent.add(frame)
        place = self._places.pop((frame.id, verdict.pipeline), None)
        if place is not None:
            self._images.keep(place, frame, verdict, before)

    def follow(self, frame: Frame) -> None:
        """Keep a frame for earlier verdicts of its camera that still need frames from after them; never blocks."""
        self._images.follow(frame)

    def _row(self, frame: Frame, verdict: Verdict) -> dict[str, Any]:
        record = verdict_record(frame, verdict)
        times = record.pop("stage_times")
        row = {name: value for name, value in record.items() if name in verdicts.c}
        times.pop("sink_ms")
        place = None
        if verdict.decision in _EVIDENCE[self._section.evidence]:
            place = self._places.get((frame.id, verdict.pipeline)) or self._folder.place(frame.id)
        if place is not None:
            self._places[frame.id, verdict.pipeline] = place
            while len(self._places) > _PLACES:
                self._places.popitem(last=False)
        return {**row, **times, "captured_at": frame.captured_at, "judged_at": self._now(), "folder": place}

    # Reading

    def verdicts(self, *, limit: int = 50, **asked: Unpack[Asked]) -> list[dict[str, Any]]:
        """List records with their `images`, newest first by arrival, whatever the clock said.

        `pipeline`, `decision` (str): only verdicts of this pipeline, or with this decision.
        `kind` (str): only verdicts with this kind, by its shown name.
        `part` (Part): only verdicts on parts with the values that are given here.
        `search` (str): only verdicts whose part's serial number, file or id begins with this, or with this number of
            the frame.
        `mark` ({"good", "bad"}): only verdicts on parts that a person gave this mark.
        `before_id` (str): only records before the record with this id, which is the last of the previous page.
        `until` (datetime): only records judged at or before this time.
        `at_least` (float): only scores of at least this, on the scale where 100 was the limit; records without a scale
            are left out.
        """
        return [self._with_images(*one) for one in self.newest(limit=limit, **asked)]

    def verdict(self, id: str, *, pipeline: str | None = None) -> dict[str, Any] | None:
        """Return one record with the names of its `images`, or None; the first one if pipelines share the capture."""
        found = self.find(id, pipeline)
        return None if found is None else self._with_images(*found)

    def _with_images(self, record: dict[str, Any], place: str | None) -> dict[str, Any]:
        images = self._folder.names(place) if place else []
        return {**record, "images": images, "recent": self.recent.find(record["id"]) is not None}

    def image(self, id: str, name: str, *, pipeline: str | None = None) -> Path | None:
        """Return the file of one of a record's `images`, or None."""
        found = self.find(id, pipeline)
        return self._folder.path(found[1], name) if found and found[1] else None

    def frame(self, id: str, pipeline: str) -> Path | None:
        """Return the file of a verdict's kept frame, lossless if possible; None if no image is kept."""
        found = (self.image(id, name, pipeline=pipeline) for name in FRAMES)
        return next((path for path in found if path), None)

    # Marks and changes

    def mark_false_reject(self, id: str, *, by: str, note: str = "", pipeline: str | None = None) -> bool:
        """Mark a part with the decision reject or review as good; see `edgead.line.evidence.marks.Marks`."""
        return self.marks.mark_false_reject(id, by=by, note=note, pipeline=pipeline)

    @contextmanager
    def audited(self, *, by: str, action: str, pipeline: str, before: Any, after: Any) -> Iterator[None]:
        """Record a change before the block makes it; if the block fails, a second row records that it was undone.

        Raises StoreAwayError: the first row cannot be written: the block does not run.
        """
        try:
            self.add_audit(by=by, action=action, pipeline=pipeline, before=before, after=after)
        except EvidenceError as error:
            raise StoreAwayError(
                f"not changed, as the audit cannot be written: {error}; try again once it can"
            ) from None
        try:
            yield
        except BaseException:
            self.note_change(by=by, action=f"{action}, undone", pipeline=pipeline, before=after, after=before)
            raise

    def note_change(self, *, by: str, action: str, pipeline: str, before: Any, after: Any) -> None:
        """Record a change that was made already; if it cannot be recorded, only the log has it."""
        try:
            self.add_audit(by=by, action=action, pipeline=pipeline, before=before, after=after)
        except EvidenceError as error:
            text = f"{pipeline}: {action} by {by} is not in the audit ({before} -> {after}): {error}"
            logger.error(text, extra={"pipeline": pipeline, "by": by, "action": action})

    # Its own state

    def status(self) -> dict[str, Any]:
        """Return the counts of written, waiting and lost rows and images since the start."""
        rows, images = self._rows.counts, self._images.counts
        return {
            "rows_written": rows.written,
            "rows_doubled": rows.doubled,
            "rows_waiting": rows.waiting,
            "rows_lost": rows.lost,
            "rows_removed": self._upkeep.removed,
            "images_written": images.written,
            "images_waiting": images.waiting,
            "images_dropped": images.dropped,
            "images_mib": images.used / 2**20,
        }

    def problems(self) -> tuple[str, ...]:
        """List the store's problems now; empty if there are none."""
        found = [self._aside] if self._aside else []
        if self._rows.problem:
            rows = self._rows.counts
            found.append(f"records are not written: {self._rows.problem}; {rows.waiting} wait, {rows.lost} lost")
        if self.audit_chain.problem:
            found.append(f"the audit is not as it was written: {self.audit_chain.problem}")
        found += self.parts.problems()
        if self._images.problem:
            found.append(f"images are not kept: {self._images.problem}; {self._images.counts.dropped} dropped")
        if self._upkeep.problem:
            found.append(f"retention does not run: {self._upkeep.problem}")
        return tuple(found)

    def remove_old(self) -> int:
        """Remove records older than `keep_days` at once, not at the next minute; return their number.

        Raises EvidenceError: the database cannot be written.
        """
        try:
            return self._upkeep.remove_old()
        except SQLAlchemyError as error:
            raise unreachable(self._engine, "cannot be written", error) from None

    def close(self, within_s: float = 1.0) -> None:
        """Write queued rows and images, as far as the time allows, and release the database."""
        deadline = time.monotonic() + within_s
        for part in (self._rows, self.parts, self._images, self._upkeep):
            part.close(max(0.05, deadline - time.monotonic()))
        for engine in (self._figures, self._engine):
            close_engine(engine)
