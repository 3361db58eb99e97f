"""Pydantic models of the API's answers, for its OpenAPI."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from edgead.line.site.status import Answer, Number, PartStatus, PipelineStatus
from edgead.sinks.queued import QueueStatus
from edgead.sources.reopened_camera import CameraStatus
from edgead.types import Decision


class CameraAnswer(CameraStatus):
    """Camera with its counts."""


class PipelineAnswer(PipelineStatus):
    trigger: Annotated[str, Field(description="Kind of the trigger, as in the site file.")] = "every_frame"
    on_request: Annotated[bool, Field(description="Whether the trigger takes requests.")] = False
    takes_images: Annotated[bool, Field(description="Whether its camera is `request:`, for sent images.")] = False


class SinkAnswer(QueueStatus):
    """Sink with its queue."""


class BoxAnswer(Answer):
    x: int
    y: int
    width: int
    height: int
    peak: Number
    place: Annotated[str, Field(description="Ninth of the frame with the box's centre, such as top left.")] = ""
    width_mm: Annotated[Number | None, Field(description="Width in mm, if the model knows the size of a pixel.")] = None
    height_mm: Annotated[Number | None, Field(description="Height in mm, as `width_mm`.")] = None
    lowest_mm: Annotated[Number | None, Field(description="Lowest place above the part's plane, from heights.")] = None
    highest_mm: Annotated[Number | None, Field(description="Highest place, as `lowest_mm`.")] = None


class PartAnswer(PartStatus):
    """Parts that several pipelines judge together."""


class ViewAnswer(Answer):
    pipeline: str
    id: Annotated[str, Field(description="Id of its verdict, for /api/verdicts/{id}.")]
    decision: Decision
    score: Number = None
    image_score: Number
    boxes: list[BoxAnswer]


class PartVerdictAnswer(Answer):
    id: Annotated[str, Field(description="Id of the capture by the view that represents the part.")]
    part: str
    serial: str
    batch: str
    recipe: str
    decision: Decision
    reason: Annotated[str, Field(description="Reason of a fault; otherwise empty.")]
    captured_at: datetime
    judged_at: datetime
    views: list[ViewAnswer]


class PartVerdictPage(Answer):
    verdicts: list[PartVerdictAnswer]
    next_before_id: Annotated[str | None, Field(description="Ask with it as before_id for older ones.")]


class StatusAnswer(Answer):
    version: str
    now: datetime
    shift: Annotated[datetime, Field(description="Begin of the current shift.")]
    uptime_s: float
    ready: bool
    cameras: list[CameraAnswer]
    pipelines: list[PipelineAnswer]
    parts: list[PartAnswer]
    sinks: list[SinkAnswer]
    evidence: Annotated[dict[str, Number], Field(description="Counts of written, waiting and lost rows and images.")]
    evidence_problems: list[str]
    audit_head: Annotated[str | None, Field(description="Hash of the newest change; keep a copy elsewhere.")]


class VerdictAnswer(Answer):
    id: str
    pipeline: str
    number: int
    name: str
    serial: Annotated[str, Field(description="Serial number of the part, if it is known.")] = ""
    batch: str = ""
    recipe: str = ""
    captured_at: datetime
    source: str
    first_line: Annotated[int | None, Field(description="With line scan: number of the frame's first line.")] = None
    lost_lines: Annotated[int | None, Field(description="Lines before this frame that are in no frame.")] = None
    first_mm: Annotated[Number, Field(description="Place of the first line in mm, if mm_per_line is set.")] = None
    score: Annotated[Number, Field(description="0 is the typical good part, 100 the limit; null without both.")] = None
    image_score: Number
    threshold: Number
    review_threshold: Number
    typical_score: Annotated[
        Number, Field(description="Median score of the good parts of the thresholds; null where none are known.")
    ] = None
    decision: Decision
    p_value: Annotated[Number, Field(description="Chance that a good part scores as high, at most.")] = None
    kind: Annotated[str | None, Field(description="Kind of the defect, in the model's words.")] = None
    kind_p_value: Annotated[Number, Field(description="Share of known rejects as far from their kind.")] = None
    shown_kind: Annotated[str | None, Field(description="Shown name of the kind; null in events.")] = None
    kind_correction: Annotated[dict[str, Any] | None, Field(description="Author and time of a correction.")] = None
    model: str
    other_format: Annotated[
        str | None, Field(description="Difference of the frame's size from learnt ones: proportions, size or small.")
    ] = None
    measured: Annotated[dict[str, Number], Field(description="Measures of the model besides its scores.")] = {}
    boxes: list[BoxAnswer]
    stage_times: dict[str, Number]
    false_reject: Annotated[dict[str, Any] | None, Field(description="Author, time and note of such a mark.")] = None
    mark: Annotated[dict[str, Any] | None, Field(description="Mark: good or bad, with author, time and note.")] = None


class VerdictDetail(VerdictAnswer):
    words: Annotated[str | None, Field(description="Sentence that describes the verdict; null for an ok part.")] = None
    images: Annotated[list[str], Field(description="Names of images, for /api/verdicts/{id}/images/{name}.")] = []
    recent: Annotated[bool, Field(description="Whether /api/verdicts/{id}/recent still has the frame.")] = False


class VerdictPage(Answer):
    verdicts: list[VerdictDetail]
    next_before_id: Annotated[str | None, Field(description="Ask with it as before_id for older ones.")]


class KindAnswer(Answer):
    kind: Annotated[str, Field(description="Shown name of the kind.")]
    count: int
    corrected: Annotated[int, Field(description="Number of these that a person corrected to this kind.")]


class IntervalAnswer(Answer):
    begin: datetime
    end: datetime
    counts: Annotated[dict[str, int], Field(description="Counts by shown kind.")]


class KindsAnswer(Answer):
    pipeline: str
    since: datetime
    until: datetime
    decision: Decision
    kinds: Annotated[list[KindAnswer], Field(description="Most frequent first.")]
    unsorted: Annotated[int, Field(description="Verdicts without a kind, as their model knows none.")]
    false_rejects: Annotated[int, Field(description="Verdicts that a person marked as false rejects.")]
    names: Annotated[dict[str, str], Field(description="Shown names of the model's kinds, if these differ.")]
    known: Annotated[dict[str, list[str]], Field(description="All kinds of any time, with the model's kinds.")]
    intervals: list[IntervalAnswer]


class PositionsAnswer(Answer):
    """Counts of boxes in the cells of a grid over the image."""

    width: Annotated[int, Field(description="Width of the image in pixels.")]
    height: int
    verdicts: int
    placed: Annotated[int, Field(description="Verdicts with a box.")]
    counts: Annotated[list[list[int]], Field(description="Boxes that touch each cell, row by row.")]
    places: Annotated[dict[str, int], Field(description="Boxes by place, A1 at the top left; most frequent first.")]


class Done(Answer):
    done: str
