"""Reader of the evidence store, which a daemon may write meanwhile, and writer of the audit's rows.

Records of verdicts include people's marks, corrections and names of kinds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, and_, func, select, union_all

from edgead.errors import SettingsError
from edgead.line.evidence import chain
from edgead.line.evidence.access import Access
from edgead.line.evidence.database import EvidenceError, database_file, open_engine
from edgead.line.evidence.settings import StoreSection
from edgead.line.evidence.tables import NAMES_PART, WITH_DEFECT, audit, corrections, marks, names, verdicts
from edgead.line.evidence.versions import check_version
from edgead.types import DECISIONS, NO_PART, Opinion, Part, scaled_score

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Kind as it is shown: a person's correction, else the name given to the model's kind, else the model's kind.
SHOWN: ColumnElement[str] = func.coalesce(corrections.c.kind, names.c.name, verdicts.c.kind)
_TIMES = ("preprocess_ms", "infer_ms", "score_ms", "smooth_ms", "age_ms")
_OF_MARK = ("marked_at", "marked_by", "mark_note", "mark_verdict")
# Only records of line-scan cameras have the first three, those of frames in another format the last.
_OF_SOME = ("first_line", "lost_lines", "first_mm", "other_format")
_BESIDE = ("seq", "folder", *_OF_MARK, "shown_kind", "corrected_at", "corrected_by")


_MARKED = and_(marks.c.id == verdicts.c.id, marks.c.pipeline == verdicts.c.pipeline)
_MARKED_GOOD = and_(_MARKED, marks.c.verdict == "good")
_MAX_ROWS = 1000
_NUMBERED = 100_000  # newest frames that are found by number, which a source begins again and again
_NAME = re.compile(r"[!-~]{1,64}")


def with_kinds(marked: ColumnElement[bool] = _MARKED_GOOD) -> FromClause:
    """Join verdicts with the tables that `SHOWN` needs, and with marks: by default only with marks as good."""
    corrected = and_(corrections.c.id == verdicts.c.id, corrections.c.pipeline == verdicts.c.pipeline)
    named = and_(names.c.pipeline == verdicts.c.pipeline, names.c.kind == verdicts.c.kind)
    return verdicts.outerjoin(marks, marked).outerjoin(corrections, corrected).outerjoin(names, named)


def with_opinions() -> Select:
    """Select verdicts with people's opinions: marks, corrections and shown kinds, as `as_record` needs them."""
    columns = (
        verdicts,
        marks.c.at.label("marked_at"),
        marks.c.by.label("marked_by"),
        marks.c.note.label("mark_note"),
        marks.c.verdict.label("mark_verdict"),
        SHOWN.label("shown_kind"),
        corrections.c.at.label("corrected_at"),
        corrections.c.by.label("corrected_by"),
    )
    return select(*columns).select_from(with_kinds(_MARKED))


def one(id: str, pipeline: str | None) -> Select:
    query = with_opinions().where(verdicts.c.id == id).order_by(verdicts.c.seq).limit(1)
    return query if pipeline is None else query.where(verdicts.c.pipeline == pipeline)


def defect(connection: Connection, id: str, pipeline: str | None, so: str) -> Row:
    """Read the row of a verdict that was not ok.

    Raises EvidenceError: there is no such verdict, or it was ok; `so` is the consequence, which ends the message.
    """
    row = connection.execute(one(id, pipeline)).first()
    if row is None:
        raise EvidenceError(f"{id}: there is no such record")
    if row.decision == "ok":
        raise EvidenceError(f"{id}: was found good, {so}")
    return row


def is_shown_as(kind: str, pipeline: str | None) -> ColumnElement[bool]:
    """Make the SQL condition that a verdict is shown under a kind, using the index of verdicts with a defect."""
    found = select(verdicts.c.seq).select_from(with_kinds()).where(WITH_DEFECT, SHOWN == kind)
    if pipeline is not None:
        found = found.where(verdicts.c.pipeline == pipeline)
    return verdicts.c.seq.in_(found)


def is_marked(opinion: Opinion) -> ColumnElement[bool]:
    """Make the SQL condition that a person gave a verdict this mark; the query starts from the marks, which are few."""
    return verdicts.c.seq.in_(select(verdicts.c.seq).join(marks, _MARKED).where(marks.c.verdict == opinion))


def is_of_part(part: Part) -> list[ColumnElement[bool]]:
    """Make an SQL condition for each value that `part` has, using the index of verdicts with such a value."""
    named = {name: value for name, value in asdict(part).items() if value}
    return [and_(NAMES_PART[name], verdicts.c[name] == value) for name, value in named.items()]


def is_found_by(text: str) -> ColumnElement[bool]:
    """Make the SQL condition that a part's serial number, its file's name or the verdict's id begins with a text.

    Among the newest frames, longer texts also match inside serial numbers and file names, and a number finds a frame
    without a name.
    """
    begins = {name: and_(NAMES_PART[name], _begins(verdicts.c[name], text)) for name in ("serial", "name")}
    found = [select(verdicts.c.seq).where(one) for one in (*begins.values(), _begins(verdicts.c.id, text.lower()))]
    oldest = select(func.max(verdicts.c.seq) - _NUMBERED).scalar_subquery()
    for name in begins:
        holds = func.lower(verdicts.c[name]).contains(text.lower(), autoescape=True)
        found.append(select(verdicts.c.seq).where(NAMES_PART[name], holds, verdicts.c.seq > oldest))
    if text.isdecimal() and len(text) < len(str(2**63)):  # digits on a label are no number of a frame
        nameless = and_(verdicts.c.serial == "", verdicts.c.name == "", verdicts.c.number == int(text))
        found.append(select(verdicts.c.seq).where(nameless, verdicts.c.seq > oldest))
    return verdicts.c.seq.in_(union_all(*found))


def _begins(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    return and_(column >= text, func.substr(column, 1, len(text)) == text)  # the first alone uses the index


def as_record(row: Row) -> dict[str, Any]:
    """Convert a row to a record like `edgead.serialization.verdict_record`, with people's marks and corrections."""
    without = {*_BESIDE, *(name for name in _OF_SOME if row._mapping[name] is None)}
    record = {name: value for name, value in row._mapping.items() if name not in without}
    record["stage_times"] = {name: record.pop(name) for name in _TIMES}
    record |= {name: record[name].isoformat() for name in ("captured_at", "judged_at")}
    said = {"shown_kind": row.shown_kind, "kind_correction": _correction(row), "mark": mark_of(row)}
    said["score"] = scaled_score(row.image_score, row.typical_score, row.threshold)
    wrong = row.mark_verdict == "good" and row.decision != "ok"
    return {**record, **said, "false_reject": said["mark"] if wrong else None}


def mark_of(row: Row) -> dict[str, Any] | None:
    if row.marked_at is None:
        return None
    return {"verdict": row.mark_verdict, "at": row.marked_at.isoformat(), "by": row.marked_by, "note": row.mark_note}


def _correction(row: Row) -> dict[str, Any] | None:
    return None if row.corrected_at is None else {"at": row.corrected_at.isoformat(), "by": row.corrected_by}


class Asked(TypedDict, total=False):
    """Conditions on the records that a query asks for; see `EvidenceStore.verdicts`."""

    pipeline: str | None
    decision: str | None
    kind: str | None
    part: Part
    search: str | None
    mark: Opinion | None
    before_id: str | None
    until: datetime | None
    at_least: float | None


class Records:
    """Queries of the store for the page and the API; safe from any thread."""

    def __init__(self, access: Access):
        self._access = access

    def newest(self, *, limit: int, **asked: Unpack[Asked]) -> list[tuple[dict[str, Any], str | None]]:
        """List records with the folders of their images, newest first; see `EvidenceStore.verdicts`."""
        pipeline, before_id = asked.get("pipeline"), asked.get("before_id")
        if not all(_NAME.fullmatch(name) for name in (pipeline, asked.get("decision"), before_id) if name):
            return []
        query = with_opinions().order_by(verdicts.c.seq.desc()).limit(max(0, min(limit, _MAX_ROWS)))
        query = query.where(*is_of_part(asked.get("part", NO_PART)))
        for name in ("pipeline", "decision"):
            if (value := asked.get(name)) is not None:
                query = query.where(verdicts.c[name] == value)
        if text := asked.get("search"):
            query = query.where(is_found_by(text))
        if (kind := asked.get("kind")) is not None:
            query = query.where(is_shown_as(kind, pipeline))
        if (mark := asked.get("mark")) is not None:
            query = query.where(is_marked(mark))
        if (until := asked.get("until")) is not None:
            query = query.where(verdicts.c.judged_at <= until)
        if (at_least := asked.get("at_least")) is not None:
            reach = verdicts.c.threshold - verdicts.c.typical_score
            query = query.where(verdicts.c.image_score >= verdicts.c.typical_score + at_least / 100 * reach)
        if before_id is not None:
            before = select(func.min(verdicts.c.seq)).where(verdicts.c.id == before_id)
            if pipeline is not None:
                before = before.where(verdicts.c.pipeline == pipeline)
            query = query.where(verdicts.c.seq < before.scalar_subquery())
        with self._access.reading() as connection:
            return [(as_record(row), row.folder) for row in connection.execute(query)]

    def find(self, id: str, pipeline: str | None) -> tuple[dict[str, Any], str | None] | None:
        """Return a record with the folder of its images, or None."""
        if not _NAME.fullmatch(id):
            return None
        with self._access.reading() as connection:
            row = connection.execute(one(id, pipeline)).first()
        return None if row is None else (as_record(row), row.folder)

    def counts(self, *, pipeline: str | None = None, since: datetime | None = None) -> dict[str, int]:
        """Count the records per decision; with `since`, only records after the last one judged before that time."""
        query = select(verdicts.c.decision, func.count()).group_by(verdicts.c.decision)
        if pipeline is not None:
            query = query.where(verdicts.c.pipeline == pipeline)
        if since is not None:
            # Walks back from the newest, so that a day costs a day's rows and not those of years before.
            last_before = select(verdicts.c.seq).where(verdicts.c.judged_at < since)
            last_before = last_before.order_by(verdicts.c.seq.desc()).limit(1)
            query = query.where(verdicts.c.seq > func.coalesce(last_before.scalar_subquery(), 0))
        with self._access.reading() as connection:
            found = {decision: count for decision, count in connection.execute(query)}
        return {decision: found.get(decision, 0) for decision in DECISIONS}

    def add_audit(self, *, by: str, action: str, pipeline: str, before: Any, after: Any) -> None:
        """Record a change and its author in the audit; `before` and `after` are values of JSON.

        Raises EvidenceError: the database cannot be written.
        """
        with self._access.writing() as connection:
            self._access.add_audit(connection, by=by, action=action, pipeline=pipeline, before=before, after=after)

    def audit(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """List the audit's rows, newest first."""
        query = select(audit.c.seq).order_by(audit.c.seq.desc()).limit(max(0, min(limit, _MAX_ROWS)))
        with self._access.reading() as connection:
            return chain.read_rows(connection, connection.scalars(query).all())


@contextmanager
def opened_store(folder: Path, url: str | None = None) -> Iterator[Access]:
    """Open the database of a store for reading only.

    `folder`: folder of the store, with its database unless `url` names another.
    `url`: SQLAlchemy URL of the database.
    Raises SettingsError: there is no store.
    Raises EvidenceError: the database cannot be read, or its tables are of another version.
    """
    engine = open_engine(StoreSection(folder=folder, url=url), read_only=True)
    file = database_file(engine)
    if file is not None and not file.is_file():
        raise SettingsError(f"{file} is not there: name the folder of an evidence store")
    now = datetime.now(timezone.utc)
    try:
        access = Access(engine, lambda: now)
        with access.reading() as connection:
            check_version(connection)
        yield access
    finally:
        engine.dispose()
