"""Routes of lessons: marked parts are taught to a copy of a model, and a person accepts or discards the result."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel, Field

from edgead.line.site.status import Answer, Number
from edgead.line.web.auth.callers import By, Note, named
from edgead.line.web.dependencies import ID, NAME, ClientAddress, Daemon, Pipeline
from edgead.line.web.problems import problems
from edgead.line.web.routes.control import Person
from edgead.line.web.routes.live import JPEG, image_file
from edgead.types import Decision

_SCALED = "Its score where 0 is the typical good part and 100 the limit; null where there is no such scale."


class CountsAnswer(Answer):
    images: int
    reject: int
    review: int


class JudgedPartAnswer(Answer):
    verdict: Annotated[str, Field(description="Id of the verdict on the part.")]
    role: Annotated[Literal["taught", "held out", "bad"], Field(description="Role of the part in the lesson.")]
    of_limit: Annotated[Number, Field(description="Score divided by the reject threshold; above 1 it is rejected.")]
    scaled_score: Annotated[Number, Field(description=_SCALED)] = None
    decision: Decision
    good_above: Annotated[int, Field(description="Good images of the thresholds that score as high or higher.")]


class JudgementAnswer(Answer):
    """Judgements of a model before or after a lesson."""

    reject_threshold: Number
    review_threshold: Number
    false_reject_rate: Annotated[Number, Field(description="Largest share of good parts that is rejected.")]
    taught: CountsAnswer
    held_out: Annotated[CountsAnswer, Field(description="Good parts that were not learnt.")]
    bad: CountsAnswer
    good: Annotated[CountsAnswer, Field(description="Held-out good images that the thresholds come from.")]
    golden_scores: list[Number]
    typical_score: Annotated[Number, Field(description="Median score of `good`.")] = None
    parts: list[JudgedPartAnswer]
    limit_by_hand: Annotated[
        bool, Field(description="Whether a person set the thresholds; they move with lessons.")
    ] = False


class ComparisonAnswer(Answer):
    """Comparison for each precision, since a model has a graph for each."""

    before: dict[str, JudgementAnswer]
    after: dict[str, JudgementAnswer]
    left_out: Annotated[
        int, Field(description="Marked parts that were left out, as their images lack the depth that the model reads.")
    ] = 0


class DoubtAnswer(Answer):
    verdict: str
    of_limit: Number
    scaled_score: Annotated[Number, Field(description=_SCALED)] = None
    doubt: Annotated[str, Field(description="Reason why it may show no good part.")]


class LessonAnswer(Answer):
    pipeline: str
    state: Annotated[
        Literal["running", "refused", "failed", "ready"],
        Field(description="refused: parts are in doubt; ready: the taught model waits for a decision."),
    ]
    by: str
    since: datetime
    good: Annotated[list[str], Field(description="Ids of the verdicts on the taught parts.")]
    bad: Annotated[
        int, Field(description="Number of parts marked bad: they test it, and three or more become known defects.")
    ]
    because: Annotated[str, Field(description="Reason for learning parts far from all good parts too.")]
    reason: Annotated[str, Field(description="Reason why it was refused or failed.")]
    doubtful: Annotated[list[DoubtAnswer], Field(description="Doubtful parts; with a `reason` they are learnt.")]
    report: ComparisonAnswer | None


class LessonsAnswer(Answer):
    lessons: list[LessonAnswer]


routes = APIRouter(prefix="/api/lessons", tags=["lessons"])
_VerdictId = Annotated[str, Field(pattern=ID)]


class NewLesson(BaseModel):
    pipeline: Annotated[str, Field(pattern=NAME)]
    verdicts: Annotated[
        list[_VerdictId],
        Field(
            max_length=200, description="Ids of verdicts on parts marked good; none to learn only the parts marked bad."
        ),
    ]
    reason: Annotated[
        Note, Field(description="Reason for learning parts far from all good parts too; kept in model and audit.")
    ] = ""
    by: By


@routes.get("")
def list_lessons(daemon: Daemon) -> LessonsAnswer:
    """Report the last lesson of each pipeline, until somebody decides on it."""
    return LessonsAnswer(lessons=[LessonAnswer.model_validate(lesson) for lesson in daemon.lessons.all()])


@routes.post("", responses=problems(404, 409))
def start(given: NewLesson, daemon: Daemon, address: ClientAddress) -> LessonsAnswer:
    """Teach a copy of the pipeline's model: parts marked good as good, parts marked bad as known defects. Audited."""
    if given.pipeline not in daemon.pipelines:
        raise HTTPException(404, f"there is no pipeline {given.pipeline}, known are {', '.join(daemon.pipelines)}")
    by = named(given.by, address)
    daemon.lessons.start(given.pipeline, given.verdicts, by=by, reason=given.reason)
    return list_lessons(daemon)


@routes.get("/{name}/sheet", response_class=Response, responses={200: JPEG, **problems(404)})
def sheet(name: str, pipeline: Pipeline, daemon: Daemon) -> Response:
    """Return one JPEG of all parts that a lesson teaches, with heat maps and scores."""
    return image_file(daemon.lessons.sheet(name), f"there is no sheet of a lesson of {name}")


@routes.post("/{name}/accept", responses=problems(404, 409))
def accept(name: str, pipeline: Pipeline, given: Person, daemon: Daemon, address: ClientAddress) -> LessonsAnswer:
    """Let the taught model judge from the next part on, after its self-test; the old version is kept."""
    daemon.lessons.accept(name, by=named(given.by, address))
    return list_lessons(daemon)


@routes.post("/{name}/discard", responses=problems(404, 409))
def discard(name: str, pipeline: Pipeline, given: Person, daemon: Daemon, address: ClientAddress) -> LessonsAnswer:
    """Stop a running lesson, or remove its result; the model in service stays."""
    daemon.lessons.discard(name, by=named(given.by, address))
    return list_lessons(daemon)
