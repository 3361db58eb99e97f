"""Verdicts of a time, page by page, with what people said of them: what an export holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, or_, select

from edgead.evidence.access import Access
from edgead.evidence.production.counts import pipelines_of
from edgead.evidence.production.query_budget import QueryBudget
from edgead.evidence.production.zipped import Kept
from edgead.evidence.queries import with_opinions
from edgead.evidence.tables import marks, verdicts
from edgead.types import Decision

PAGE = 500
COLUMNS = {
    "id": "text",
    "pipeline": "text",
    "judged_at": "instant",
    "captured_at": "instant",
    "number": "whole",
    "name": "text",
    "source": "text",
    "serial": "text",
    "batch": "text",
    "recipe": "text",
    "decision": "text",
    **dict.fromkeys(("image_score", "threshold", "review_threshold", "typical_score", "p_value"), "number"),
    "kind": "text",
    "model": "text",
    "boxes": "text",
    "marked_at": "instant",
    "marked_by": "text",
    "mark_note": "text",
    "mark_verdict": "text",
    "images": "text",
}
"""The columns of an export, with what each holds; `boxes` is JSON, `images` where those of the verdict lie."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which verdicts; what is None asks for all."""

    begin: datetime
    end: datetime
    pipeline: str | None = None
    decision: Decision | None = None
    batch: str | None = None
    recipe: str | None = None
    marked: bool = False

    def conditions(self, pipeline: str) -> list[ColumnElement[bool]]:
        named = {"decision": self.decision, "batch": self.batch, "recipe": self.recipe}
        found = [verdicts.c[name] == value for name, value in named.items() if value is not None]
        found += [marks.c.id.is_not(None)] if self.marked else []
        return [verdicts.c.pipeline == pipeline, verdicts.c.judged_at < self.end, *found]


def pages(access: Access, wanted: Wanted, budget: QueryBudget, *also: ColumnElement[bool]) -> Iterator[list[Row]]:
    """Give the rows of verdicts, of one pipeline after the other, each in the order of time.

    No page holds the database longer than it takes to read it: who receives them may be slow.

    Parameters
    ----------
    also : ColumnElement
        What else is asked of each.

    Raises
    ------
    EvidenceError
        The database cannot be read, or the turn is over.
    """
    names = pipelines_of(access) if wanted.pipeline is None else [wanted.pipeline]
    for name in names:
        yield from _of_pipeline(access, [*wanted.conditions(name), *also], wanted.begin, budget)


def count(access: Access, wanted: Wanted, budget: QueryBudget) -> int:
    """Count the rows that `pages` gives."""
    counted = 0
    for name in pipelines_of(access) if wanted.pipeline is None else [wanted.pipeline]:
        query = select(func.count()).select_from(verdicts)
        if wanted.marked:
            query = query.join(marks, and_(marks.c.id == verdicts.c.id, marks.c.pipeline == verdicts.c.pipeline))
        with access.reading() as connection:
            query = query.where(*wanted.conditions(name), verdicts.c.judged_at >= wanted.begin)
            counted += connection.execute(query).scalar() or 0
        budget.rest()
    return counted


def kept_images(access: Access, wanted: Wanted, budget: QueryBudget) -> Iterator[Kept]:
    """Give the verdicts of which images are kept."""
    for page in pages(access, wanted, budget, verdicts.c.folder.is_not(None)):
        for row in page:
            yield Kept(row.folder, f"{row.pipeline}/{row.id}", row.judged_at)


def as_row(row: Row) -> dict[str, Any]:
    """A row of the database under the names of `COLUMNS`."""
    record = {name: getattr(row, name, None) for name in COLUMNS}
    return {**record, "kind": row.shown_kind, "boxes": json.dumps(row.boxes), "images": row.folder}


def _of_pipeline(
    access: Access, conditions: list[ColumnElement[bool]], at: datetime, budget: QueryBudget
) -> Iterator[list[Row]]:
    seq = 0
    while True:
        after = or_(verdicts.c.judged_at > at, verdicts.c.seq > seq)
        query = with_opinions().where(*conditions, verdicts.c.judged_at >= at, after)
        with access.reading() as connection:
            found = list(connection.execute(query.order_by(verdicts.c.judged_at, verdicts.c.seq).limit(PAGE)))
        if found:
            yield found
        budget.rest()
        if len(found) < PAGE:
            return
        at, seq = found[-1].judged_at, found[-1].seq
