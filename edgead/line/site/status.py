"""Status of pipelines, of parts that several pipelines judge together, and of followers, as the API reports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgead.line.drift import DriftState

Number = float | None
"""Number in JSON; infinity and NaN become null."""
State = Literal["starting", "running", "paused", "fault", "stopped"]
FollowState = Literal["waiting", "current", "refused", "pinned"]


class Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True, ser_json_inf_nan="null")


class LatencyAnswer(Answer):
    """Distribution of one stage's times, in milliseconds; p99.9 is null for fewer than 1000 samples."""

    n: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p99_9_ms: Number
    max_ms: float
    counts: Annotated[
        tuple[int, ...],
        Field(description="Samples up to 1, 2, 5, 10, 20, 50, 100, 200, 500 and 1000 ms, and longer ones."),
    ]


class PipelineStatus(Answer):
    """State and counts of a pipeline since it was made."""

    name: str
    camera: str
    model: str
    model_sha256: str
    state: State
    reason: str | None
    since: datetime
    decisions: Annotated[dict[str, int], Field(description="Verdicts since the start.")]
    kinds: Annotated[dict[str, int], Field(description="Rejects by the model's kinds since the start.")]
    taken: Annotated[int, Field(description="Frames taken from the camera.")]
    judged: int
    dropped: Annotated[int, Field(description="Frames that a newer one replaced before they were taken.")]
    skipped: Annotated[int, Field(description="Frames that came while the pipeline was in fault.")]
    unasked: Annotated[int, Field(description="Frames that the trigger did not choose, which is no fault.")] = 0
    uninspected: Annotated[int, Field(description="Frames that went by in pauses, and should have been judged.")] = 0
    warming_up: Annotated[int, Field(description="Frames that a model of several frames needs before it judges.")]
    late: Annotated[int, Field(description="Verdicts that took longer than the budget.")]
    missed: Annotated[
        int, Field(description="Frames, or announced parts if a trigger chooses frames, that got no verdict.")
    ]
    parts_missed: Annotated[int, Field(description="Announced parts that got no verdict.")]
    codes: Annotated[dict[str, int], Field(description="Part codes: read, unread, differs (from the trigger).")]
    restarts: int
    fps: Number
    latency: dict[str, LatencyAnswer]
    thresholds: Annotated[Mapping[str, Number] | None, Field(description="Thresholds `review` and `reject`.")]
    can_roll_back: bool
    earlier_model: Annotated[str, Field(description="Model that a roll-back brings back; empty without one.")] = ""
    earlier_sha256: str = ""
    earlier_review: Annotated[Number | None, Field(description="Score up to which its parts are OK.")] = None
    knows_kinds: Annotated[bool, Field(description="Whether the model in service knows kinds of defects.")] = False
    drift: DriftState | None
    realtime_problem: Annotated[str | None, Field(description="Error if the system refused `realtime`.")] = None


class PartStatus(Answer):
    """Parts that several pipelines judge together."""

    name: str
    pipelines: tuple[str, ...]
    rule: Literal["worst", "any", "k_of_n"]
    decisions: Annotated[dict[str, int], Field(description="Verdicts since the start; fault if a view is missing.")]
    waiting: Annotated[int, Field(description="Parts that wait for a view, or for an earlier part.")]
    unmatched: Annotated[int, Field(description="Views that came too late, or fit several parts.")]
    reason: Annotated[str, Field(description="Reason of the last fault; empty without one.")]
    problem: str | None


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """Scores of good images that a model has not learnt, for a person who chooses a limit."""

    typical_score: Annotated[Number, Field(description="Median of the good scores; null without any.")]
    good_scores: Annotated[list[float], Field(description="Good scores, ascending.")]
    false_reject_rates: Annotated[
        list[float], Field(description="Rate of a limit at or above the first 0, 1, ... all good scores.")
    ]
    models: Annotated[
        list[str], Field(description="Models with the same scores: the one in service, and versions of it.")
    ]


@dataclass(frozen=True, slots=True)
class MarkedScores:
    """Scores of the newest parts that people marked, by the model in service, which scores their kept images again."""

    good: list[float]
    bad: list[float]
    unknown: Annotated[int, Field(description="Parts marked bad that another model judged, without a usable image.")]


class FollowStatus(Answer):
    """State of a follower; `problem` says why the registry was not reached, or a step failed."""

    source: str
    state: FollowState
    tag_digest: str | None
    digest: str | None
    reason: str | None
    problem: str | None
    looked_at: datetime | None
    changed_at: datetime | None
