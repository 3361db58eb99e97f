"""Answers of the routes of production: counts, yield, orders."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from edgead.types import Decision, Opinion
from edgead.web.answers import Answer

Share = Annotated[float | None, Field(ge=0, le=1)]


class TallyAnswer(Answer):
    """Parts of a time; yields are shares of those inspected, null where there was none."""

    inspected: int
    ok: int
    review: int
    reject: int
    fault: Annotated[int, Field(description="Parts of several views of which one was missing: not inspected.")]
    false_rejects: Annotated[int, Field(description="Of review and reject, those that a person found good.")]
    first_yield: Annotated[Share, Field(alias="yield", description="The share that was found ok.")]
    yield_after_review: Annotated[Share, Field(description="The same with the false rejects among the good.")]


class PeriodAnswer(Answer):
    name: str
    begin: datetime
    end: datetime


class OrderAnswer(Answer):
    name: str
    batch: str
    started_at: datetime
    by: str


class UnitAnswer(Answer):
    """A pipeline, or a part of several views."""

    unit: str
    is_part: bool
    counts_once: Annotated[bool, Field(description="In the total: views of a part are not, the part is.")]
    shift: TallyAnswer
    order: TallyAnswer | None


class CountersAnswer(Answer):
    shift: PeriodAnswer
    order: Annotated[OrderAnswer | None, Field(description="null until a person has started one.")]
    units: list[UnitAnswer]
    total: Annotated[dict[str, TallyAnswer | None], Field(description="Of `shift` and `order`; each part once.")]


class HourAnswer(TallyAnswer):
    begin: datetime
    end: datetime


class SeriesAnswer(PeriodAnswer):
    hours: Annotated[list[HourAnswer], Field(description="From the begin on up to now; the last one still runs.")]


class GroupAnswer(Answer):
    name: Annotated[str, Field(description="Of the shift, day, order, batch or recipe; may be empty.")]
    begin: datetime | None
    end: datetime | None
    total: TallyAnswer
    units: dict[str, TallyAnswer]


class MarkAnswer(Answer):
    id: str
    pipeline: str
    decision: Decision
    judged_at: datetime
    marked_at: datetime
    marked_by: str
    mark_note: str
    mark_verdict: Annotated[Opinion, Field(description="What the person said: good or bad.")]


class ReportAnswer(Answer):
    by: str
    begin: datetime
    end: datetime
    total: TallyAnswer
    groups: list[GroupAnswer]
    marks: Annotated[list[MarkAnswer], Field(description="The first hundred false rejects of this time.")]


class ImagesAnswer(Answer):
    verdicts: Annotated[int, Field(description="Of which images are kept.")]
    mib: Annotated[float, Field(description="What these take.")]


def tally_answer(tally: Any, answer: type[TallyAnswer] = TallyAnswer, **also: Any) -> Any:
    """Give a tally as an answer."""
    return answer.model_validate({**tally.figures(), **also})
