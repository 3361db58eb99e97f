"""Upkeep of the evidence store in the background: syncing to the disk, and retention."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, Row, delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from edgead.line.evidence.database import MAX_LOG, database_file, problem_of
from edgead.line.evidence.folder import ImageFolder
from edgead.line.evidence.passed_frames import PassedFrames
from edgead.line.evidence.tables import corrections, marks, parts, passed_frames, verdicts
from edgead.process.restarting_thread import RestartingThread

_DISK_EVERY_S = 1.0
_RETENTION_EVERY_S = 60.0
_ROWS_AT_ONCE = 1000


class Upkeep:
    """Thread that writes passed frames and syncs the log to the disk every second, and checks the rest every minute.

    `now`: returns the wall clock's time.
    `watch`: checks whether the audit is intact; called every minute.
    """

    def __init__(
        self,
        engine: Engine,
        folder: ImageFolder,
        keep_days: float,
        now: Callable[[], datetime],
        watch: Callable[[], None],
        passed: PassedFrames,
    ):
        self._watch, self._passed = watch, passed
        self._problem: str | None = None
        self.removed = 0
        self._engine = engine
        self._folder = folder
        self._keep = timedelta(days=keep_days)
        self._now = now
        self._begun_s = time.monotonic()
        self._last_before: int | None = None
        self._closing = threading.Event()
        self._thread = RestartingThread("evidence upkeep", self._run)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Problem of the upkeep now, or None."""
        return self._problem or self._thread.problem

    def close(self, within_s: float) -> None:
        self._closing.set()
        self._thread.join(within_s)

    def remove_old(self) -> int:
        """Remove records older than `keep_days`, with their images; return their number.

        Records are removed in order of arrival, up to the first that is young enough. Until this process has run for
        `keep_days`, it removes none of its own records, whatever the clock says.
        """
        removed = 0
        while not self._closing.is_set():
            rows = self._oldest()
            if not rows:
                break
            for row in rows:
                if row.folder is not None:
                    self._folder.remove(row.folder)
            with self._engine.begin() as connection:
                for said in (marks, corrections, parts):
                    connection.execute(delete(said).where(said.c.id.in_([row.id for row in rows])))
                connection.execute(delete(passed_frames).where(passed_frames.c.at < rows[-1].judged_at))
                connection.execute(delete(verdicts).where(verdicts.c.seq <= rows[-1].seq))
            removed += len(rows)
        self.removed += removed
        return removed

    def _oldest(self) -> Sequence[Row]:
        columns = (verdicts.c.seq, verdicts.c.id, verdicts.c.folder, verdicts.c.judged_at)
        query = select(*columns).order_by(verdicts.c.seq).limit(_ROWS_AT_ONCE)
        with self._engine.connect() as connection:
            if self._last_before is None:
                self._last_before = connection.execute(select(func.max(verdicts.c.seq))).scalar() or 0
            if time.monotonic() - self._begun_s < self._keep.total_seconds():
                query = query.where(verdicts.c.seq <= self._last_before)
            rows = connection.execute(query).all()
        oldest = self._now() - self._keep
        return rows[: next((index for index, row in enumerate(rows) if row.judged_at >= oldest), len(rows))]

    def _run(self) -> None:
        next_s = time.monotonic() + _DISK_EVERY_S
        file = database_file(self._engine)
        closing = False
        while not closing:
            closing = self._closing.wait(_DISK_EVERY_S)
            try:
                self._passed.write(self._engine)
                if file is not None:
                    bring_to_disk(file)
                if time.monotonic() >= next_s and not closing:
                    next_s = time.monotonic() + _RETENTION_EVERY_S
                    self._watch()
                    self.remove_old()
                self._problem = None
            except SQLAlchemyError as error:
                self._problem = problem_of(error)
            except (OSError, sqlite3.Error) as error:
                self._problem = str(error)


def bring_to_disk(database: Path) -> None:
    """Sync committed rows to the disk, so that they outlive a power failure, and keep SQLite's log short.

    Syncing the log is enough. A log that has grown is moved into the database; no writer waits for that.
    """
    log = database.with_name(f"{database.name}-wal")
    try:
        with open(log, "rb") as file:
            os.fdatasync(file.fileno())
            grown = os.fstat(file.fileno()).st_size >= MAX_LOG
    except FileNotFoundError:
        return
    if grown:
        with closing(sqlite3.connect(database, timeout=1)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
