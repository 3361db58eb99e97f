"""Routes of kinds of defects: their counts, their places on the part, and their names."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import AwareDatetime, BaseModel, Field

from edgead.images.boxes import box_density, box_places
from edgead.line.site.status import Answer
from edgead.line.web.answers import Done, IntervalAnswer, KindsAnswer, PositionsAnswer
from edgead.line.web.auth.callers import By, Kind, named
from edgead.line.web.dependencies import ID, NAME, ClientAddress, Daemon, Pipeline, VerdictId
from edgead.line.web.problems import problems

routes = APIRouter(prefix="/api", tags=["kinds"], responses=problems(404, 409))
_MAX_INTERVALS = 100
_EARLIEST = datetime(1970, 1, 1, tzinfo=timezone.utc)

Hours = Annotated[float, Query(gt=0, le=1_000_000, description="Hours before now, by the device's clock.")]
Since = Annotated[AwareDatetime | None, Query(description="Start of the period, instead of `hours`.")]
Until = Annotated[AwareDatetime | None, Query(description="End of the period; by default now.")]
IntervalHours = Annotated[
    float | None, Query(ge=1, le=168, description="Count also by intervals of this length, from `since` on.")
]
Rejected = Annotated[Literal["reject", "review"], Query(description="Decision of the verdicts to count.")]


def _period(hours: Hours = 24.0, since: Since = None, until: Until = None) -> tuple[datetime, datetime]:
    now = datetime.now(timezone.utc)
    now = now if until is None else min(max(until, _EARLIEST), now)
    begin = now - timedelta(hours=min(hours, (now - _EARLIEST) / timedelta(hours=1))) if since is None else since
    return min(max(begin, _EARLIEST), now), now


Period = Annotated[tuple[datetime, datetime], Depends(_period)]


class RenameRequest(BaseModel):
    kind: Kind
    name: Kind
    by: By


class MergeRequest(BaseModel):
    kind: Kind
    into: Kind
    by: By


class SplitRequest(BaseModel):
    kind: Kind
    judged: Annotated[Kind, Field(description="Kind of the model to separate.")]
    name: Annotated[Kind | None, Field(description="Shown name from now on; by default the model's.")] = None
    by: By


class Naming(BaseModel):
    kinds: Annotated[
        dict[Kind, list[Annotated[str, Field(pattern=ID)]]],
        Field(min_length=1, description="Ids of verdicts by kind: a new kind, or a known one by its shown name."),
    ]
    by: By


class RejectAnswer(Answer):
    verdict: Annotated[str, Field(description="Id of the verdict.")]
    image: Annotated[str | None, Field(description="Name of the image, for /api/verdicts/{id}/images/{name}.")]


class HeapsAnswer(Answer):
    state: Literal["none", "running", "failed", "ready"]
    reason: Annotated[str, Field(description="Reason of a failure.")] = ""
    heaps: Annotated[list[list[RejectAnswer]], Field(description="Largest first; in each the most typical first.")] = []
    clear: Annotated[list[bool | None], Field(description="Whether each heap is found again from half of them.")] = []
    images: Annotated[int, Field(description="Images to sort, while they are sorted.")] = 0
    done: Annotated[int, Field(description="Number of these that were judged again.")] = 0
    left_out: Annotated[int, Field(description="Images that the model does not reject now, or cannot read.")] = 0


class Correction(BaseModel):
    kind: Annotated[Kind | None, Field(description="Kind, also a new one; null takes a correction back.")]
    by: By
    pipeline: Annotated[str | None, Field(pattern=NAME)] = None


@routes.get("/pipelines/{name}/kinds")
def count_kinds(
    name: str,
    pipeline: Pipeline,
    daemon: Daemon,
    period: Period,
    interval_hours: IntervalHours = None,
    decision: Rejected = "reject",
) -> KindsAnswer:
    """Count the kinds of defects in a period, most frequent first; parts marked as false rejects count for none."""
    kinds, (since, until) = daemon.store.kinds, period
    found = kinds.counts(name, since=since, until=until, decision=decision)
    intervals = [] if interval_hours is None else _intervals(since, until, timedelta(hours=interval_hours))
    if len(intervals) > _MAX_INTERVALS:
        most = f"at most {_MAX_INTERVALS} are counted: ask for longer ones"
        raise HTTPException(409, f"these are {len(intervals)} intervals, {most}")
    answer: dict[str, Any] = {"pipeline": name, "since": since, "until": until, "decision": decision, **found}
    answer |= {"names": kinds.names(name), "known": kinds.known(name), "intervals": []}
    for begin, end in intervals:
        within = kinds.counts(name, since=begin, until=end, decision=decision)
        counts = {each["kind"]: each["count"] for each in within["kinds"]}
        answer["intervals"].append(IntervalAnswer(begin=begin, end=end, counts=counts))
    return KindsAnswer.model_validate(answer)


def _intervals(since: datetime, until: datetime, length: timedelta) -> list[tuple[datetime, datetime]]:
    count = max(0, -((since - until) // length))
    return [(since + index * length, since + (index + 1) * length) for index in range(count)]


@routes.get("/pipelines/{name}/positions")
def count_positions(
    name: str,
    pipeline: Pipeline,
    daemon: Daemon,
    period: Period,
    kind: Annotated[Kind | None, Query(description="Only this kind, by its shown name.")] = None,
    decision: Rejected = "reject",
) -> PositionsAnswer:
    """Count the boxes of a period on a grid over the image, to show where on the part defects are."""
    found = daemon.store.kinds.boxes(name, since=period[0], until=period[1], kind=kind, decision=decision)
    boxes = list(chain.from_iterable(found))
    latest = pipeline.latest()
    if latest is None:  # nothing was judged since the start: as far as the boxes reach
        width = max((box["x"] + box["width"] for box in boxes), default=1)
        height = max((box["y"] + box["height"] for box in boxes), default=1)
    else:
        height, width = latest[0].image.shape[:2]
    size = (width, height)
    counts, places, placed = box_density(boxes, size).tolist(), box_places(boxes, size), sum(map(bool, found))
    shown = {"verdicts": len(found), "placed": placed, "width": width, "height": height}
    return PositionsAnswer(**shown, counts=counts, places=places)


@routes.post("/pipelines/{name}/kinds/rename")
def rename(name: str, pipeline: Pipeline, given: RenameRequest, daemon: Daemon, address: ClientAddress) -> Done:
    """Show a kind under another name, also in earlier verdicts; audited."""
    daemon.store.kinds.rename(name, given.kind, given.name, by=named(given.by, address))
    return Done(done=f"{given.kind} is {given.name} now")


@routes.post("/pipelines/{name}/kinds/merge")
def merge(name: str, pipeline: Pipeline, given: MergeRequest, daemon: Daemon, address: ClientAddress) -> Done:
    """Show a kind as another existing one; audited, and `split` separates them again."""
    daemon.store.kinds.merge(name, given.kind, given.into, by=named(given.by, address))
    return Done(done=f"{given.kind} is {given.into} now")


@routes.post("/pipelines/{name}/kinds/split")
def split(name: str, pipeline: Pipeline, given: SplitRequest, daemon: Daemon, address: ClientAddress) -> Done:
    """Show one of the model's kinds under its own name again, or under a new one; audited."""
    daemon.store.kinds.split(name, given.kind, given.judged, given.name, by=named(given.by, address))
    return Done(done=f"{given.judged} is {given.name or given.judged} now")


@routes.get("/pipelines/{name}/heaps")
def heaps(name: str, pipeline: Pipeline, daemon: Daemon) -> HeapsAnswer:
    """Report the heaps (groups of similar rejects) of the last sorting, until somebody names or discards them."""
    return HeapsAnswer.model_validate(daemon.heaps.of(name))


@routes.post("/pipelines/{name}/heaps")
def sort(name: str, pipeline: Pipeline, daemon: Daemon, period: Period) -> HeapsAnswer:
    """Sort the last rejects of a period into heaps by their look, at most 200 with an image; inspection goes on."""
    daemon.heaps.sort(name, period[0])
    return heaps(name, pipeline, daemon)


@routes.post("/pipelines/{name}/heaps/name")
def name_heaps(name: str, pipeline: Pipeline, given: Naming, daemon: Daemon, address: ClientAddress) -> Done:
    """Teach the model a kind for each heap; its next verdicts use these names. Audited; the old version is kept."""
    daemon.heaps.name(name, given.kinds, by=named(given.by, address))
    return Done(done="the model names these kinds from now on")


@routes.post("/pipelines/{name}/heaps/discard")
def discard_heaps(name: str, pipeline: Pipeline, daemon: Daemon) -> HeapsAnswer:
    """Stop the sorting, or forget its heaps."""
    daemon.heaps.discard(name)
    return heaps(name, pipeline, daemon)


@routes.post("/verdicts/{verdict_id}/kind")
def correct(verdict_id: VerdictId, given: Correction, daemon: Daemon, address: ClientAddress) -> Done:
    """Correct the kind of a verdict; audited."""
    if daemon.store.verdict(verdict_id, pipeline=given.pipeline) is None:
        raise HTTPException(404, f"there is no verdict {verdict_id}")
    daemon.store.kinds.correct(verdict_id, given.kind, by=named(given.by, address), pipeline=given.pipeline)
    return Done(done=f"it is {given.kind} now" if given.kind else "it is again what it was judged to be")
