"""The rows of verdicts with what people said of them: marks, corrections and names of kinds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, and_, func, select

from edgead.evidence.database import EvidenceError
from edgead.evidence.tables import NAMES_PART, WITH_DEFECT, corrections, marks, names, verdicts
from edgead.types import Opinion, Part

# What a kind is shown as: what a person said of this one, else the name of the model's kind, else that itself.
SHOWN: ColumnElement[str] = func.coalesce(corrections.c.kind, names.c.name, verdicts.c.kind)
_TIMES = ("preprocess_ms", "infer_ms", "score_ms", "smooth_ms", "age_ms")
_OF_MARK = ("marked_at", "marked_by", "mark_note", "mark_verdict")
_BESIDE = ("seq", "folder", *_OF_MARK, "shown_kind", "corrected_at", "corrected_by")


_MARKED = and_(marks.c.id == verdicts.c.id, marks.c.pipeline == verdicts.c.pipeline)
_MARKED_GOOD = and_(_MARKED, marks.c.verdict == "good")


def with_kinds(marked: ColumnElement[bool] = _MARKED_GOOD) -> FromClause:
    """Verdicts beside what `SHOWN` is made of, and beside marks: by default those of good parts."""
    corrected = and_(corrections.c.id == verdicts.c.id, corrections.c.pipeline == verdicts.c.pipeline)
    named = and_(names.c.pipeline == verdicts.c.pipeline, names.c.kind == verdicts.c.kind)
    return verdicts.outerjoin(marks, marked).outerjoin(corrections, corrected).outerjoin(names, named)


def with_opinions() -> Select:
    """Everything that `as_record` needs."""
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
    """The row of a verdict that was no OK.

    Raises
    ------
    EvidenceError
        There is none, or it was OK; `so` says what follows of that.
    """
    row = connection.execute(one(id, pipeline)).first()
    if row is None:
        raise EvidenceError(f"{id}: there is no such record")
    if row.decision == "ok":
        raise EvidenceError(f"{id}: was found good, {so}")
    return row


def is_shown_as(kind: str, pipeline: str | None) -> ColumnElement[bool]:
    """Whether a verdict is shown as of a kind, looked up in the index of those with a defect."""
    found = select(verdicts.c.seq).select_from(with_kinds()).where(WITH_DEFECT, SHOWN == kind)
    if pipeline is not None:
        found = found.where(verdicts.c.pipeline == pipeline)
    return verdicts.c.seq.in_(found)


def is_marked(opinion: Opinion) -> ColumnElement[bool]:
    """Whether a person marked a verdict so, looked up from the few marks."""
    return verdicts.c.seq.in_(select(verdicts.c.seq).join(marks, _MARKED).where(marks.c.verdict == opinion))


def is_of_part(part: Part) -> list[ColumnElement[bool]]:
    """What a verdict is asked for by each value that a part names, looked up in the index of those that name one."""
    named = {name: value for name, value in asdict(part).items() if value}
    return [and_(NAMES_PART[name], verdicts.c[name] == value) for name, value in named.items()]


def as_record(row: Row) -> dict[str, Any]:
    """A row as `edgead.serialization.verdict_record` has it, with what people said of it beside it."""
    record = {name: value for name, value in row._mapping.items() if name not in _BESIDE}
    record["stage_times"] = {name: record.pop(name) for name in _TIMES}
    for name in ("captured_at", "judged_at"):
        record[name] = record[name].isoformat()
    said = {"shown_kind": row.shown_kind, "kind_correction": _correction(row), "mark": mark_of(row)}
    wrong = row.mark_verdict == "good" and row.decision != "ok"
    return {**record, **said, "false_reject": said["mark"] if wrong else None}


def mark_of(row: Row) -> dict[str, Any] | None:
    if row.marked_at is None:
        return None
    return {"verdict": row.mark_verdict, "at": row.marked_at.isoformat(), "by": row.marked_by, "note": row.mark_note}


def _correction(row: Row) -> dict[str, Any] | None:
    return None if row.corrected_at is None else {"at": row.corrected_at.isoformat(), "by": row.corrected_by}
