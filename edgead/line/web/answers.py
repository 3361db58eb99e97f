"""Pydantic models of the API's answers, for its OpenAPI."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from edgead.types import Decision

Number = float | None
"""Number in JSON; infinity and NaN become null."""
Text = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]


class Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True, ser_json_inf_nan="null")


class LatencyAnswer(Answer):
    """Distribution of one stage's times, in milliseconds; p99.9 is null for fewer than 1000 samples."""

    n: int
    mean_ms: Number
    p50_ms: Number
    p90_ms: Number
    p99_ms: Number
    p99_9_ms: Number
    max_ms: Number


class CameraAnswer(Answer):
    name: str
    uri: str
    state: Literal["connecting", "streaming", "stalled", "lost", "ended"]
    reason: str | None
    since: datetime
    fps: Number
    age_s: Annotated[Number, Field(description="Of the newest frame.")]
    captured: int
    reconnects: int
    corrupt: int
    duplicates: int
    lost_packets: Annotated[int, Field(description="Of a GenICam camera, that did not arrive.")]
    lost_frames: Annotated[int, Field(description="That a GenICam camera numbered, and that did not arrive.")]
    health: Annotated[tuple[str, ...], Field(description="dark, bright, blurred, moved, frozen.")]


class DriftAnswer(Answer):
    """State of the drift watch."""

    state: Annotated[
        Literal["ok", "warning", "off"], Field(description="off: the model cannot be watched, `reason` says why.")
    ]
    cause: Literal["camera", "product"] | None
    reason: str | None
    parts: Annotated[int, Field(description="Seen since the watch began.")]
    alarm_part: Annotated[int | None, Field(description="The part at which the warning was raised.")]
    evidence: Annotated[Number, Field(description="1 raises the warning.")]


class PipelineAnswer(Answer):
    name: str
    camera: str
    model: Text
    model_sha256: str
    state: Literal["starting", "running", "paused", "fault", "stopped"]
    reason: str | None
    since: datetime
    decisions: Annotated[dict[str, int], Field(description="Verdicts since the start.")]
    kinds: Annotated[dict[str, int], Field(description="Rejects by the model's kinds since the start.")]
    taken: Annotated[int, Field(description="Frames taken from the camera.")]
    judged: int
    dropped: Annotated[int, Field(description="Frames that a newer one replaced before they were taken.")]
    skipped: Annotated[int, Field(description="Frames that came while the pipeline was in fault.")]
    unasked: Annotated[int, Field(description="Frames taken that its trigger did not ask for, which is no fault.")] = 0
    warming_up: Annotated[int, Field(description="Frames that a model which remembers frames needs before it judges.")]
    late: Annotated[int, Field(description="Verdicts that took longer than the budget.")]
    missed: Annotated[
        int, Field(description="Frames, or parts where the trigger chooses frames, that should have got a verdict.")
    ]
    parts_missed: Annotated[int, Field(description="Parts that were named and got no verdict.")]
    codes: Annotated[dict[str, int], Field(description="Codes of parts: read, unread, and differs from the trigger.")]
    restarts: int
    fps: Number
    latency: dict[str, LatencyAnswer]
    thresholds: Annotated[dict[str, Number] | None, Field(description="review and reject.")]
    can_roll_back: bool
    drift: DriftAnswer | None
    realtime_problem: Annotated[str | None, Field(description="What the system refuses of its `realtime`.")] = None
    trigger: Annotated[str, Field(description="Its kind, as in the site file.")] = "every_frame"
    on_request: Annotated[bool, Field(description="The trigger takes requests.")] = False
    takes_images: Annotated[bool, Field(description="Its camera is `request:`: sent images are judged.")] = False


class GoodScoresAnswer(Answer):
    typical_score: Annotated[Number, Field(description="Their median; null where there are none.")]
    good_scores: Annotated[list[Number], Field(description="Ascending.")]
    false_reject_rates: Annotated[
        list[Number], Field(description="Of a limit at or above so many of them: none, the first, and so on to all.")
    ]


class SinkAnswer(Answer):
    """Sink with its queue."""

    name: str
    uri: str
    waiting: int
    written: int
    dropped: int
    failed: int
    problem: str | None
    required: Annotated[bool, Field(description="The device is ready only while it works.")]
    failing_s: Annotated[Number, Field(description="For how long it has taken nothing.")]
    blocks: Annotated[bool, Field(description="It is required, and has failed for longer than is tolerated.")]
    notices_waiting: Annotated[int, Field(description="Notices; the other counts are of verdicts.")] = 0
    notices_lost: int = 0


class BoxAnswer(Answer):
    x: int
    y: int
    width: int
    height: int
    peak: Number
    place: Annotated[str, Field(description="The ninth of the frame that its centre lies in, such as top left.")] = ""
    width_mm: Annotated[Number | None, Field(description="Where the model knows how many mm a pixel is.")] = None
    height_mm: Annotated[Number | None, Field(description="Likewise.")] = None
    lowest_mm: Annotated[Number | None, Field(description="Of a model of heights: above the part's plane.")] = None
    highest_mm: Annotated[Number | None, Field(description="Likewise.")] = None


class PartAnswer(Answer):
    """Parts that several pipelines judge together."""

    name: str
    pipelines: tuple[str, ...]
    rule: Literal["worst", "any", "k_of_n"]
    decisions: Annotated[dict[str, int], Field(description="Verdicts since the start; fault where a view is missing.")]
    waiting: Annotated[int, Field(description="Parts that wait for a view, or for a part before them.")]
    unmatched: Annotated[int, Field(description="Views that came too late, or could be of several parts.")]
    reason: Annotated[str, Field(description="Of the last fault; empty without one.")]
    problem: str | None


class ViewAnswer(Answer):
    pipeline: str
    id: Annotated[str, Field(description="Of its verdict, for /api/verdicts/{id}.")]
    decision: Decision
    score: Number = None
    image_score: Number
    boxes: list[BoxAnswer]


class PartVerdictAnswer(Answer):
    id: Annotated[str, Field(description="Of the capture of the view that stands for the part.")]
    part: str
    serial: str
    batch: str
    recipe: str
    decision: Decision
    reason: Annotated[str, Field(description="Of a fault; otherwise empty.")]
    captured_at: datetime
    judged_at: datetime
    views: list[ViewAnswer]


class PartVerdictPage(Answer):
    verdicts: list[PartVerdictAnswer]
    next_before_id: Annotated[str | None, Field(description="Ask with it as before_id for older ones.")]


class StatusAnswer(Answer):
    version: str
    now: datetime
    uptime_s: float
    ready: bool
    cameras: list[CameraAnswer]
    pipelines: list[PipelineAnswer]
    parts: list[PartAnswer]
    sinks: list[SinkAnswer]
    evidence: Annotated[dict[str, Number], Field(description="What the store wrote, what waits and what was lost.")]
    evidence_problems: list[str]
    audit_head: Annotated[str | None, Field(description="Hash of the newest change, to be kept elsewhere.")]


class VerdictAnswer(Answer):
    id: str
    pipeline: str
    number: int
    name: str
    serial: Annotated[str, Field(description="Of the part, where somebody said so.")] = ""
    batch: str = ""
    recipe: str = ""
    captured_at: datetime
    source: str
    first_line: Annotated[int | None, Field(description="Of a line-scan camera: number of the frame's first.")] = None
    lost_lines: Annotated[int | None, Field(description="Before it, that are in no frame.")] = None
    first_mm: Annotated[Number, Field(description="The first line in mm, where the camera has mm_per_line.")] = None
    score: Annotated[Number, Field(description="0 is the typical good part, 100 the limit; null without both.")] = None
    image_score: Number
    threshold: Number
    review_threshold: Number
    typical_score: Annotated[
        Number, Field(description="Median score of the good parts of the thresholds; null where none are known.")
    ] = None
    decision: Decision
    p_value: Annotated[Number, Field(description="Of a score as high or higher for a good part, at most.")] = None
    kind: Annotated[str | None, Field(description="Of its defect, in the model's words.")] = None
    kind_p_value: Annotated[Number, Field(description="Of a known reject as far from all others of its kind.")] = None
    shown_kind: Annotated[str | None, Field(description="The kind as people call it; null in events.")] = None
    kind_correction: Annotated[dict[str, Any] | None, Field(description="Who said it is that one, and when.")] = None
    model: str
    other_format: Annotated[
        str | None, Field(description="How the frame's size differs from those learnt: proportions, size or small.")
    ] = None
    measured: Annotated[dict[str, Number], Field(description="What the model measured beside its scores.")] = {}
    boxes: list[BoxAnswer]
    stage_times: dict[str, Number]
    false_reject: Annotated[dict[str, Any] | None, Field(description="Who marked it as one, when, and why.")] = None
    mark: Annotated[dict[str, Any] | None, Field(description="good or bad, who says so, when, and why.")] = None


class VerdictDetail(VerdictAnswer):
    words: Annotated[str | None, Field(description="A sentence of what is recorded; null for an ok part.")] = None
    images: Annotated[list[str], Field(description="Names, for /api/verdicts/{id}/images/{name}.")] = []
    recent: Annotated[bool, Field(description="The frame is still held: /api/verdicts/{id}/recent.")] = False


class VerdictPage(Answer):
    verdicts: list[VerdictDetail]
    next_before_id: Annotated[str | None, Field(description="Ask with it as before_id for older ones.")]


class KindAnswer(Answer):
    kind: Annotated[str, Field(description="As it is shown.")]
    count: int
    corrected: Annotated[int, Field(description="Of these, how many a person said are of it.")]


class IntervalAnswer(Answer):
    begin: datetime
    end: datetime
    counts: Annotated[dict[str, int], Field(description="By kind as it is shown.")]


class KindsAnswer(Answer):
    pipeline: str
    since: datetime
    until: datetime
    decision: Decision
    kinds: Annotated[list[KindAnswer], Field(description="Most frequent first.")]
    unsorted: Annotated[int, Field(description="Verdicts without a kind: their model knows none.")]
    false_rejects: Annotated[int, Field(description="Verdicts that a person marked as such.")]
    names: Annotated[dict[str, str], Field(description="What the model's kinds are shown as, where it differs.")]
    known: Annotated[dict[str, list[str]], Field(description="All kinds of any time, as shown, with the model's.")]
    intervals: list[IntervalAnswer]


class PositionsAnswer(Answer):
    """Counts of boxes in the cells of a grid over the image."""

    width: Annotated[int, Field(description="Of the image, in pixels.")]
    height: int
    verdicts: int
    counts: Annotated[list[list[int]], Field(description="Boxes that touch each cell, row by row.")]
    places: Annotated[dict[str, int], Field(description="Boxes by place, A1 at the top left; most frequent first.")]


class Done(Answer):
    done: str
