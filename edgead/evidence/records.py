"""Reads the evidence store, and writes what people say and do: marks and changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, and_, delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from edgead.evidence.database import EvidenceError, problem_of, shown_address
from edgead.evidence.tables import audit, marks, verdicts
from edgead.types import DECISIONS

_MOST_ROWS = 1000
# A text may hold half of a character, which no database takes.
_REFUSED = (SQLAlchemyError, UnicodeError)
_NAME = re.compile(r"[!-~]{1,64}")
_TIMES = ("preprocess_ms", "infer_ms", "score_ms", "smooth_ms", "age_ms")


class Records:
    """Queries of the page and the API; safe from any thread."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]):
        self._engine = engine
        self._now = now

    def newest(
        self, *, pipeline: str | None, decision: str | None, before_id: str | None, limit: int
    ) -> list[dict[str, Any]]:
        if not all(_NAME.fullmatch(name) for name in (pipeline, decision, before_id) if name):
            return []
        query = _with_marks().order_by(verdicts.c.seq.desc()).limit(max(0, min(limit, _MOST_ROWS)))
        if pipeline is not None:
            query = query.where(verdicts.c.pipeline == pipeline)
        if decision is not None:
            query = query.where(verdicts.c.decision == decision)
        if before_id is not None:
            before = select(func.min(verdicts.c.seq)).where(verdicts.c.id == before_id)
            if pipeline is not None:
                before = before.where(verdicts.c.pipeline == pipeline)
            query = query.where(verdicts.c.seq < before.scalar_subquery())
        with self._connection() as connection:
            return [_record(row) for row in connection.execute(query)]

    def find(self, id: str, pipeline: str | None) -> tuple[dict[str, Any], str | None] | None:
        """A record and the place of its images."""
        if not _NAME.fullmatch(id):
            return None
        with self._connection() as connection:
            row = connection.execute(_one(id, pipeline)).first()
        return None if row is None else (_record(row), row.folder)

    def counts(self, *, pipeline: str | None, since: datetime | None) -> dict[str, int]:
        query = select(verdicts.c.decision, func.count()).group_by(verdicts.c.decision)
        if pipeline is not None:
            query = query.where(verdicts.c.pipeline == pipeline)
        if since is not None:
            # Walks back from the newest, so that a day costs a day and not the years before it.
            last_before = select(verdicts.c.seq).where(verdicts.c.judged_at < since)
            last_before = last_before.order_by(verdicts.c.seq.desc()).limit(1)
            query = query.where(verdicts.c.seq > func.coalesce(last_before.scalar_subquery(), 0))
        with self._connection() as connection:
            found = {decision: count for decision, count in connection.execute(query)}
        return {decision: found.get(decision, 0) for decision in DECISIONS}

    def mark(self, id: str, pipeline: str | None, *, by: str, note: str) -> None:
        with self._transaction() as connection:
            row = connection.execute(_one(id, pipeline)).first()
            if row is None:
                raise EvidenceError(f"{id}: there is no such record")
            if row.decision == "ok":
                raise EvidenceError(f"{id}: was found good, so it is no false reject")
            connection.execute(delete(marks).where(marks.c.id == id, marks.c.pipeline == row.pipeline))
            connection.execute(marks.insert().values(id=id, pipeline=row.pipeline, at=self._now(), by=by, note=note))
            before = _mark(row)
            after = {"id": id, "note": note}
            self._add_audit(
                connection, by=by, action="mark_false_reject", pipeline=row.pipeline, before=before, after=after
            )

    def add_audit(self, **change: Any) -> None:
        with self._transaction() as connection:
            self._add_audit(connection, **change)

    def _add_audit(self, connection: Connection, **change: Any) -> None:
        connection.execute(audit.insert().values(at=self._now(), **change))

    def audit(self, *, limit: int) -> list[dict[str, Any]]:
        query = select(audit).order_by(audit.c.seq.desc()).limit(max(0, min(limit, _MOST_ROWS)))
        with self._connection() as connection:
            return [{**row._mapping, "at": row.at.isoformat()} for row in connection.execute(query)]

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except _REFUSED as error:
            raise EvidenceError(f"{shown_address(self._engine)}: cannot be read: {problem_of(error)}") from None

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except _REFUSED as error:
            raise EvidenceError(f"{shown_address(self._engine)}: cannot be written: {problem_of(error)}") from None


def _with_marks() -> Select:
    columns = (verdicts, marks.c.at.label("marked_at"), marks.c.by.label("marked_by"), marks.c.note.label("mark_note"))
    same = and_(marks.c.id == verdicts.c.id, marks.c.pipeline == verdicts.c.pipeline)
    return select(*columns).select_from(verdicts.outerjoin(marks, same))


def _one(id: str, pipeline: str | None) -> Select:
    query = _with_marks().where(verdicts.c.id == id).order_by(verdicts.c.seq).limit(1)
    return query if pipeline is None else query.where(verdicts.c.pipeline == pipeline)


def _record(row: Row) -> dict[str, Any]:
    """A row as `edgead.serialization.verdict_record` has it, with what the store knows beside it."""
    record = dict(row._mapping)
    for name in ("seq", "folder", "marked_at", "marked_by", "mark_note"):
        del record[name]
    record["stage_times"] = {name: record.pop(name) for name in _TIMES}
    for name in ("captured_at", "judged_at"):
        record[name] = record[name].isoformat()
    return {**record, "false_reject": _mark(row)}


def _mark(row: Row) -> dict[str, Any] | None:
    if row.marked_at is None:
        return None
    return {"at": row.marked_at.isoformat(), "by": row.marked_by, "note": row.mark_note}
