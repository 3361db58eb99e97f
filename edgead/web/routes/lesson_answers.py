"""Answers of the routes of lessons."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from edgead.types import Decision
from edgead.web.answers import Answer, Number

_SCALED = "Its score where 0 is the typical good part and 100 the limit; null where there is no such scale."


class CountsAnswer(Answer):
    images: int
    reject: int
    review: int


class JudgedPartAnswer(Answer):
    verdict: Annotated[str, Field(description="Id of the verdict whose part it is.")]
    role: Annotated[Literal["taught", "held out", "bad"], Field(description="Why it is in the lesson.")]
    of_limit: Annotated[Number, Field(description="Its score beside the reject threshold; above 1 it is rejected.")]
    scaled_score: Annotated[Number, Field(description=_SCALED)] = None
    decision: Decision
    good_above: Annotated[
        int, Field(description="Good images of the thresholds that score as high: so many would go too.")
    ]


class JudgementAnswer(Answer):
    """What a model says before or after a lesson."""

    reject_threshold: Number
    review_threshold: Number
    false_reject_rate: Annotated[Number, Field(description="At most this share of good parts is rejected.")]
    taught: CountsAnswer
    held_out: Annotated[CountsAnswer, Field(description="Good parts that were not learnt.")]
    bad: CountsAnswer
    good: Annotated[CountsAnswer, Field(description="Held-out good images that the thresholds come from.")]
    golden_scores: list[Number]
    typical_score: Annotated[Number, Field(description="Median score of `good`.")] = None
    parts: list[JudgedPartAnswer]


class ComparisonAnswer(Answer):
    """By precision, as a model has a graph for each."""

    before: dict[str, JudgementAnswer]
    after: dict[str, JudgementAnswer]


class DoubtAnswer(Answer):
    verdict: str
    of_limit: Number
    scaled_score: Annotated[Number, Field(description=_SCALED)] = None
    doubt: Annotated[str, Field(description="Why it may show no good part.")]


class LessonAnswer(Answer):
    pipeline: str
    state: Annotated[
        Literal["running", "refused", "failed", "ready"],
        Field(description="refused: the guard stopped it; ready: the taught model waits for a decision."),
    ]
    by: str
    since: datetime
    good: Annotated[list[str], Field(description="Ids of the verdicts whose parts are taught.")]
    bad: Annotated[int, Field(description="Parts that are marked bad, which test it.")]
    because: Annotated[str, Field(description="Why also what stands far from anything good is learnt.")]
    reason: Annotated[str, Field(description="Why it was refused or failed.")]
    doubtful: Annotated[list[DoubtAnswer], Field(description="Parts in doubt: with a `reason` they are learnt.")]
    report: ComparisonAnswer | None


class LessonsAnswer(Answer):
    lessons: list[LessonAnswer]
