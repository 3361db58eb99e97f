"""Kinds of defects as people see them: counts, places on the part, and names.

A model has its own names of kinds. People may rename a kind, show several as one, and correct the kind of one verdict;
the stored verdict keeps the model's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from edgead.line.evidence.access import Access
from edgead.line.evidence.database import EvidenceError
from edgead.line.evidence.records import SHOWN, defect, with_kinds
from edgead.line.evidence.tables import WITH_DEFECT, corrections, marks, names, verdicts
from edgead.types import UNKNOWN_KIND, Decision

_MAX_VERDICTS = 20_000


class KindStore:
    """Kinds of an evidence store; safe from any thread.

    Parts that a person marked as false rejects have no defect, and so count for no kind.
    """

    def __init__(self, access: Access):
        self._access = access

    # Reading

    def counts(
        self, pipeline: str, *, since: datetime, until: datetime | None = None, decision: Decision = "reject"
    ) -> dict[str, Any]:
        """Count the verdicts of each kind in a period.

        Returns `kinds`: list of dict with `kind`, `count` and `corrected` (how many of these a person corrected), most
            frequent first; `unsorted`: verdicts without a kind; `false_rejects`.
        """
        marked = func.count(marks.c.id)
        query = select(SHOWN, func.count() - marked, func.count(corrections.c.id), marked).select_from(with_kinds())
        query = query.where(*_within(pipeline, since, until, decision)).group_by(SHOWN, marks.c.id.is_(None))
        with self._access.reading() as connection:
            found = connection.execute(query).all()
        kinds = [
            {"kind": kind, "count": count, "corrected": corrected}
            for kind, count, corrected, _ in sorted(found, key=lambda each: (-each[1], each[0] or ""))
            if count and kind is not None
        ]
        unsorted = sum(count for kind, count, *_ in found if kind is None)
        return {"kinds": kinds, "unsorted": unsorted, "false_rejects": sum(row[-1] for row in found)}

    def boxes(
        self,
        pipeline: str,
        *,
        since: datetime,
        until: datetime | None = None,
        kind: str | None = None,
        decision: Decision = "reject",
    ) -> list[list[dict[str, Any]]]:
        """List the boxes of each verdict in a period, without false rejects, newest first; at most 20,000 verdicts."""
        query = select(verdicts.c.boxes).select_from(with_kinds()).where(*_within(pipeline, since, until, decision))
        query = query.where(marks.c.id.is_(None)).order_by(verdicts.c.judged_at.desc()).limit(_MAX_VERDICTS)
        if kind is not None:
            query = query.where(SHOWN == kind)
        with self._access.reading() as connection:
            return list(connection.execute(query).scalars())

    def names(self, pipeline: str) -> dict[str, str]:
        """Map the model's kinds to the names that people gave them; kinds without such a name are left out."""
        with self._access.reading() as connection:
            return _names(connection, pipeline)

    def known(self, pipeline: str) -> dict[str, list[str]]:
        """Map each kind that a pipeline shows to the list of the model's kinds that are shown under this name."""
        with self._access.reading() as connection:
            known = _Known(connection, pipeline)
        return {kind: known.judged_of(kind) for kind in sorted(known.shown)}

    # Changes

    def rename(self, pipeline: str, kind: str, name: str, *, by: str) -> None:
        """Show a kind under another name, also in earlier verdicts.

        Raises EvidenceError: there is no such kind, the name is taken, or the database cannot be written.
        """
        with self._access.writing() as connection:
            known = _Known(connection, pipeline)
            known.check(kind)
            known.check_free(name)
            _show_as(connection, pipeline, known.judged_of(kind), name)
            _follow(connection, pipeline, kind, name)
            self._audit(connection, pipeline, by, "rename_kind", kind, name)

    def merge(self, pipeline: str, kind: str, into: str, *, by: str) -> None:
        """Show a kind under the name of another existing kind; `split` separates them again.

        Raises EvidenceError: a kind does not exist, both are the same, or the database cannot be written.
        """
        with self._access.writing() as connection:
            known = _Known(connection, pipeline)
            known.check(kind)
            known.check(into)
            if kind == into:
                raise EvidenceError(f"{kind!r} is that kind already: name another one to merge it into")
            _show_as(connection, pipeline, known.judged_of(kind), into)
            _follow(connection, pipeline, kind, into)
            self._audit(connection, pipeline, by, "merge_kinds", kind, into)

    def split(self, pipeline: str, kind: str, judged: str, name: str | None = None, *, by: str) -> None:
        """Show one of the model's kinds separately again, under a new name or by default the model's name for it.

        Raises EvidenceError: `judged` is not shown as `kind`, the name is taken, or the database cannot be written.
        """
        name = judged if name is None else name
        with self._access.writing() as connection:
            known = _Known(connection, pipeline)
            if judged not in known.judged_of(kind):
                among = ", ".join(known.judged_of(kind)) or "none"
                raise EvidenceError(f"{judged!r} is not shown as {kind!r}, these are: {among}")
            known.check_free(name)
            _show_as(connection, pipeline, [judged], name)
            self._audit(connection, pipeline, by, "split_kind", {"kind": kind, "judged": judged}, name)

    def correct(self, id: str, kind: str | None, *, by: str, pipeline: str | None = None) -> None:
        """Correct the kind of one verdict, to a known or a new kind; None takes the correction back.

        Raises EvidenceError: there is no such record, its part was found good, or the database cannot be written.
        """
        with self._access.writing() as connection:
            row = defect(connection, id, pipeline, "so it is of no kind")
            mine = (corrections.c.id == id, corrections.c.pipeline == row.pipeline)
            connection.execute(delete(corrections).where(*mine))
            if kind is not None:
                values = {"id": id, "pipeline": row.pipeline, "kind": kind, "at": self._access.now(), "by": by}
                connection.execute(corrections.insert().values(values))
            before, after = ({"id": id, "kind": each} for each in (row.shown_kind, kind))
            self._audit(connection, row.pipeline, by, "correct_kind", before, after)

    def _audit(self, connection: Connection, pipeline: str, by: str, action: str, before: Any, after: Any) -> None:
        self._access.add_audit(connection, by=by, action=action, pipeline=pipeline, before=before, after=after)


class _Known:
    """Known kinds of a pipeline: kinds in its verdicts, and kinds that people have named."""

    def __init__(self, connection: Connection, pipeline: str):
        self._pipeline = pipeline
        self._names = _names(connection, pipeline)
        of_model = select(verdicts.c.kind).distinct().where(WITH_DEFECT, verdicts.c.pipeline == pipeline)
        of_people = select(corrections.c.kind).distinct().where(corrections.c.pipeline == pipeline)
        judged = set(connection.execute(of_model.where(verdicts.c.kind.is_not(None))).scalars())
        self._judged = sorted(judged | set(self._names))
        self.shown = {self._names.get(kind, kind) for kind in self._judged}
        self.shown.update(connection.execute(of_people).scalars())

    def judged_of(self, kind: str) -> list[str]:
        """List the model's kinds that are shown as `kind`."""
        return [judged for judged in self._judged if self._names.get(judged, judged) == kind]

    def check(self, kind: str) -> None:
        if kind == UNKNOWN_KIND:
            raise EvidenceError(f"{kind!r} are many: say of each image which kind it is")
        if kind not in self.shown:
            among = ", ".join(sorted(self.shown)) or "none"
            raise EvidenceError(f"{self._pipeline} has no kind {kind!r}, known are: {among}")

    def check_free(self, name: str) -> None:
        if name in self.shown or name == UNKNOWN_KIND:
            raise EvidenceError(f"{self._pipeline} has a kind {name!r} already: merge them, or choose another name")


def _within(
    pipeline: str, since: datetime, until: datetime | None, decision: Decision
) -> tuple[ColumnElement[bool], ...]:
    begin = (WITH_DEFECT, verdicts.c.pipeline == pipeline, verdicts.c.decision == decision)
    end = () if until is None else (verdicts.c.judged_at < until,)
    return (*begin, verdicts.c.judged_at >= since, *end)


def _names(connection: Connection, pipeline: str) -> dict[str, str]:
    query = select(names.c.kind, names.c.name).where(names.c.pipeline == pipeline)
    return {kind: name for kind, name in connection.execute(query)}


def _show_as(connection: Connection, pipeline: str, judged: Iterable[str], name: str) -> None:
    for kind in judged:
        connection.execute(delete(names).where(names.c.pipeline == pipeline, names.c.kind == kind))
        if kind != name:
            connection.execute(names.insert().values(pipeline=pipeline, kind=kind, name=name))


def _follow(connection: Connection, pipeline: str, kind: str, name: str) -> None:
    """Move people's corrections of single verdicts to the new name."""
    mine = (corrections.c.pipeline == pipeline, corrections.c.kind == kind)
    connection.execute(update(corrections).where(*mine).values(kind=name))
