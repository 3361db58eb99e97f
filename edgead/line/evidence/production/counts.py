"""Counts of verdicts, and yields, over time, of a pipeline or of a part that several pipelines judge.

Each report has a deadline and a limited share of a core, since judging needs the cores and Python's lock too.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import reduce
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, func, or_, select

from edgead.line.evidence.access import Access
from edgead.line.evidence.database import EvidenceError
from edgead.line.evidence.production.periods import Period
from edgead.line.evidence.tables import marks, parts, passed_frames, verdicts

_LOOKED_AT = 100  # newest parts whose views are read: one with a fault lacks some
_GIVEN_AGAIN: ColumnElement[bool] = and_(marks.c.id == verdicts.c.id, marks.c.pipeline == verdicts.c.pipeline)


class QueryBudget:
    """Budget of a report's time: the report rests after each query, and fails when it takes too long.

    `within_s`: seconds after which `rest` raises.
    `share`: share of one core that the report may use on average; with 1 it never rests.
    """

    def __init__(self, within_s: float = float("inf"), share: float = 1.0):
        self._within_s, self._share = within_s, share
        self._ends_s = time.monotonic() + within_s
        self._worked_s = time.thread_time()

    def rest(self) -> None:
        """Sleep for so long that the work since the last rest keeps to the share.

        Raises EvidenceError: the report takes longer than `within_s`.
        """
        worked_s = time.thread_time() - self._worked_s
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise EvidenceError(
                f"this takes longer than {self._within_s:g} s: choose a shorter time, or `edgead evidence report`"
            )
        if self._share < 1:
            time.sleep(min(left_s, worked_s * (1 / self._share - 1)))
        self._worked_s = time.thread_time()


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of parts by decision, and of the decisions that people's later marks show to be wrong.

    `fault`: parts of several views that are a fault, as when a view is missing: they were not inspected.
    `false_rejects`: number of reviews and rejects that a person found good.
    `known_escapes`: number of ok parts that a person found bad.
    `lost`, `late`, `in_fault`, `paused`: number of frames without a verdict in time, which count as no part: the frame
        was lost, the verdict came too late, or the pipeline was in fault or paused.
    """

    ok: int = 0
    review: int = 0
    reject: int = 0
    fault: int = 0
    false_rejects: int = 0
    known_escapes: int = 0
    lost: int = 0
    late: int = 0
    in_fault: int = 0
    paused: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def inspected(self) -> int:
        """Number of parts with a decision."""
        return self.ok + self.review + self.reject

    @property
    def uninspected(self) -> int:
        """Number of frames without a verdict in time; `inspected` counts late verdicts too."""
        return self.lost + self.late + self.in_fault + self.paused

    @property
    def first_yield(self) -> float | None:
        """Share of inspected parts that were found ok; None if nothing was inspected."""
        return self.ok / self.inspected if self.inspected else None

    @property
    def reviewed_yield(self) -> float | None:
        """Share of inspected parts that are good, corrected by people's marks; None if nothing was inspected."""
        good = self.ok + self.false_rejects - self.known_escapes
        return good / self.inspected if self.inspected else None

    def figures(self) -> dict[str, int | float | None]:
        """Return all figures by the names of the report's columns."""
        shares = {"yield": self.first_yield, "yield_after_review": self.reviewed_yield}
        return {**{name: getattr(self, name) for name in COUNTED}, **shares}


COUNTED = ("inspected", *(one.name for one in fields(Tally)), "uninspected")
"""Names of the counts among a tally's figures."""


def total(tallies: Iterable[Tally]) -> Tally:
    return reduce(Tally.__add__, tallies, Tally())


Key = Literal["batch", "recipe"]


class Unit(NamedTuple):
    """Unit that is counted: the verdicts of a pipeline, or the parts that several pipelines judge together."""

    name: str
    is_part: bool = False

    @property
    def table(self) -> Table:
        return parts if self.is_part else verdicts

    def within(self, begin: datetime, end: datetime) -> ColumnElement[bool]:
        """Make the SQL condition for the unit's decisions in a period, so that it uses the table's index."""
        table = self.table
        named = (table.c.part if self.is_part else table.c.pipeline) == self.name
        return and_(named, table.c.judged_at >= begin, table.c.judged_at < end)


def units_of(access: Access) -> list[tuple[Unit, bool]]:
    """List all units of a store; False marks a pipeline that is a view of a part, as the part counts already."""
    names = {True: _distinct(access, parts.c.part), False: _distinct(access, verdicts.c.pipeline)}
    with access.reading() as connection:
        views = {view for name in names[True] for view in _views(connection, name)}
    return [(Unit(name, is_part), is_part or name not in views) for is_part, of in names.items() for name in of]


def _views(connection: Connection, part: str) -> set[str]:
    newest = select(parts.c.views).where(parts.c.part == part).order_by(parts.c.seq.desc()).limit(_LOOKED_AT)
    return {view["pipeline"] for seen in connection.execute(newest).scalars() for view in seen}


def _distinct(access: Access, column: ColumnElement[str]) -> list[str]:
    """List the distinct values of a column, with one look-up for each; the column must be the first of an index."""
    found: list[str] = []
    with access.reading() as connection:
        while True:
            query = select(func.min(column))
            name = connection.execute(query.where(column > found[-1]) if found else query).scalar()
            if name is None:
                return found
            found.append(name)


def pipelines_of(access: Access) -> list[str]:
    """Name the pipelines that have verdicts."""
    return _distinct(access, verdicts.c.pipeline)


class CountCorrection(NamedTuple):
    """Correction of the counts by a person, for one moment: a false reject, or a known escape."""

    at: datetime
    batch: str
    recipe: str
    tally: Tally


def decided(access: Access, unit: Unit, begin: datetime, end: datetime) -> Tally:
    """Count the decisions of a period, without people's later marks, and the frames without a decision in time."""
    decision = unit.table.c.decision
    query = select(decision, func.count()).where(unit.within(begin, end)).group_by(decision)
    with access.reading() as connection:
        counted = Tally(**{name: count for name, count in connection.execute(query)})
    return counted + _passed(access, unit, begin, end)


def corrected(access: Access, unit: Unit, periods: Sequence[Period]) -> list[CountCorrection]:
    """List the corrections within some periods and between them, the earliest first."""
    if not periods:
        return []
    begin, end = span(periods)
    # The queries start from marks and changes, which are few.
    with access.reading() as connection:
        found = _corrected_parts if unit.is_part else _corrected_verdicts
        return sorted(found(connection, unit.within(begin, end), begin), key=lambda one: one.at)


def tallies(access: Access, unit: Unit, periods: Sequence[Period], budget: QueryBudget) -> list[Tally]:
    """Count the decisions of each of several periods, with people's corrections."""
    counted = []
    for period in periods:
        counted.append(decided(access, unit, period.begin, period.end))
        budget.rest()
    return with_corrected(access, unit, periods, counted)


def with_corrected(access: Access, unit: Unit, periods: Sequence[Period], counted: Sequence[Tally]) -> list[Tally]:
    """Add people's corrections to the counts of periods."""
    found = corrected(access, unit, periods)
    at = [one.at for one in found]
    return [
        tally + total(one.tally for one in found[bisect_left(at, period.begin) : bisect_left(at, period.end)])
        for period, tally in zip(periods, counted, strict=True)
    ]


def tallies_by(
    access: Access, unit: Unit, key: Key, periods: Sequence[Period], budget: QueryBudget
) -> dict[str, Tally]:
    """Count by the parts' batch or recipe over all periods together; one query for each period."""
    column, decision = unit.table.c[key], unit.table.c.decision
    counted: defaultdict[str, Tally] = defaultdict(Tally)
    for period in periods:
        query = select(column, decision, func.count()).where(unit.within(period.begin, period.end))
        with access.reading() as connection:
            for value, name, count in connection.execute(query.group_by(column, decision)):
                counted[value] += Tally(**{name: count})
        counted[""] += _passed(access, unit, period.begin, period.end)  # nobody knows of which batch they were
        budget.rest()
    for one in corrected(access, unit, periods):
        counted[getattr(one, key)] += one.tally
    return {value: tally for value, tally in counted.items() if tally != Tally()}


def span(periods: Sequence[Period]) -> tuple[datetime, datetime]:
    """Return the earliest begin and the latest end of some periods."""
    return min(period.begin for period in periods), max(period.end for period in periods)


def _passed(access: Access, unit: Unit, begin: datetime, end: datetime) -> Tally:
    """Count the frames of a period without a verdict in time: on record, or waiting to be written."""
    column = passed_frames.c
    query = select(column.reason, func.sum(column.frames)).where(column.at >= begin, column.at < end)
    with access.passed.moving, access.reading() as connection:
        pipelines = _views(connection, unit.name) if unit.is_part else {unit.name}
        query = query.where(column.pipeline.in_(pipelines)).group_by(column.reason)
        counted = Counter({reason: int(frames) for reason, frames in connection.execute(query)})
        for (pipeline, at, reason), frames in access.passed.waiting().items():
            if pipeline in pipelines and begin <= at < end:
                counted[reason] += frames
    return Tally(**counted)


def _wrong(row: Row) -> CountCorrection:
    tally = Tally(known_escapes=1) if row.decision == "ok" else Tally(false_rejects=1)
    return CountCorrection(row.judged_at, row.batch, row.recipe, tally)


def _corrected_verdicts(
    connection: Connection, wanted: ColumnElement[bool], begin: datetime
) -> Iterator[CountCorrection]:
    query = select(verdicts.c.judged_at, verdicts.c.batch, verdicts.c.recipe, verdicts.c.decision)
    ok, good = verdicts.c.decision == "ok", marks.c.verdict == "good"
    query = query.select_from(marks.join(verdicts, _GIVEN_AGAIN)).where(or_(and_(ok, ~good), and_(~ok, good)))
    yield from map(_wrong, connection.execute(query.where(wanted, marks.c.at >= begin)))


def _corrected_parts(connection: Connection, wanted: ColumnElement[bool], begin: datetime) -> Iterator[CountCorrection]:
    """Yield the ok parts with a view marked bad, and the parts not ok whose views are all ok or marked good."""
    marked = connection.execute(select(marks.c.pipeline, marks.c.id, marks.c.verdict).where(marks.c.at >= begin))
    said = {(pipeline, id): verdict for pipeline, id, verdict in marked}
    query = select(parts).where(wanted, parts.c.decision != "fault")
    for row in connection.execute(query.where(parts.c.id.in_(select(marks.c.id).where(marks.c.at >= begin)))):
        views: list[dict[str, Any]] = row.views
        of = [said.get((view["pipeline"], view["id"]), "good" if view["decision"] == "ok" else None) for view in views]
        if "bad" in of if row.decision == "ok" else set(of) == {"good"}:
            yield _wrong(row)
