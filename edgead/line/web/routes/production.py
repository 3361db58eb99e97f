"""Routes of production figures: counters of shift and order, yield by the hour, reports, and files of them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from socket import gethostname
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field

from edgead.line.evidence.production.counts import Tally, Unit, span, total
from edgead.line.evidence.production.export import VerdictQuery
from edgead.line.evidence.production.formats import Format
from edgead.line.evidence.production.periods import By as GroupedBy
from edgead.line.evidence.production.periods import Period, hours_of, within
from edgead.line.evidence.production.report import ReportQuery, sum_of
from edgead.line.site.shifts import days_between, shift_at, shifts_between
from edgead.line.site.status import Answer
from edgead.line.web.answers import Done
from edgead.line.web.auth.callers import By, named
from edgead.line.web.contract import all_units, counted_once, running
from edgead.line.web.dependencies import NAME, ClientAddress, Daemon, Value
from edgead.line.web.load_limits import OneAtATime
from edgead.line.web.problems import problems
from edgead.types import Decision, DetectorDecision, Opinion

Share = Annotated[float | None, Field(ge=0, le=1)]
_EARLIEST = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LONGEST = timedelta(days=3660)
_TYPES = {"csv": "text/csv", "jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ZIP: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": _BINARY}}}


class TallyAnswer(Answer):
    """Counts of parts in a period; yields are shares of the inspected parts, null if there are none."""

    inspected: int
    ok: int
    review: int
    reject: int
    fault: Annotated[int, Field(description="Parts of several views with a missing one: not inspected.")]
    false_rejects: Annotated[int, Field(description="Parts in review and reject that a person found good.")]
    known_escapes: Annotated[int, Field(description="Parts in ok that a person found bad.")]
    uninspected: Annotated[int, Field(description="Frames without a verdict in time: the next four together.")]
    lost: Annotated[int, Field(description="Frames that did not arrive or that newer ones replaced, and missed parts.")]
    late: Annotated[int, Field(description="Verdicts that took longer than the budget; they count as inspected too.")]
    in_fault: Annotated[int, Field(description="Frames that came while the pipeline was in fault.")]
    paused: Annotated[int, Field(description="Frames that went by while a person had paused the pipeline.")]
    first_yield: Annotated[Share, Field(alias="yield", description="Share that was found ok.")]
    yield_after_review: Annotated[Share, Field(description="Share of ok and false rejects, less known escapes.")]


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
    """Numbers of judged parts of the shift and the order, for a pipeline or for a part that several pipelines judge."""

    unit: str
    is_part: bool
    counts_once: Annotated[bool, Field(description="Whether it counts in the total: a part does, its views do not.")]
    shift: TallyAnswer
    order: TallyAnswer | None


class CountersAnswer(Answer):
    shift: PeriodAnswer
    order: Annotated[OrderAnswer | None, Field(description="Current order; null until a person has started one.")]
    units: list[UnitAnswer]
    total: Annotated[dict[str, TallyAnswer | None], Field(description="Of `shift` and `order`; each part counts once.")]


class HourAnswer(TallyAnswer):
    begin: datetime
    end: datetime


class SeriesAnswer(PeriodAnswer):
    hours: Annotated[list[HourAnswer], Field(description="Hours from the begin up to now; the last one still runs.")]


class GroupAnswer(Answer):
    name: Annotated[str, Field(description="Name of the shift, day, order, batch or recipe; may be empty.")]
    begin: datetime | None
    end: datetime | None
    total: TallyAnswer
    units: dict[str, TallyAnswer]


class MarkAnswer(Answer):
    id: str
    pipeline: str
    number: int
    serial: str
    name: str
    decision: Decision
    judged_at: datetime
    marked_at: datetime
    marked_by: str
    mark_note: str
    mark_verdict: Annotated[Opinion, Field(description="Mark by the person: good or bad.")]


class ReportAnswer(Answer):
    device: Annotated[str, Field(description="Name of the device in the fleet, or else the computer's.")]
    by: str
    begin: Annotated[datetime, Field(description="Begin of what is counted: by orders, not before the first of them.")]
    end: datetime
    total: TallyAnswer
    groups: list[GroupAnswer]
    marks: Annotated[list[MarkAnswer], Field(description="First hundred marked verdicts of the period.")]


class ImagesAnswer(Answer):
    verdicts: Annotated[int, Field(description="Number of verdicts with kept images.")]
    mib: Annotated[float, Field(description="Size of these images.")]


def tally_answer(tally: Any, answer: type[TallyAnswer] = TallyAnswer, **also: Any) -> Any:
    """Convert a tally into an answer of the API."""
    return answer.model_validate({**tally.figures(), **also})


routes = APIRouter(prefix="/api/production", tags=["production"], responses=problems(404, 409, 503))

_TABLE: dict[int | str, dict[str, Any]] = {200: {"content": {kind: _BINARY for kind in _TYPES.values()}}}

Since = Annotated[AwareDatetime | None, Query(description="Start of the period; by default that of the shift.")]
Until = Annotated[AwareDatetime | None, Query(description="End of the period; by default now.")]
OfUnit = Annotated[str | None, Query(pattern=NAME, description="Pipeline or part to count; by default each part once.")]
Kind = Annotated[Format, Query(alias="format", description="Format of the file; parquet needs its extra installed.")]


class NewOrder(BaseModel):
    name: Annotated[Value, Field(description="Name of the order; may be empty.")] = ""
    batch: Annotated[Value, Field(description="Batch of its parts; may be empty.")] = ""
    by: By


async def _time(daemon: Daemon, since: Since = None, until: Until = None) -> tuple[datetime, datetime]:
    now = datetime.now(timezone.utc)
    end = now if until is None else min(max(until, _EARLIEST), now)
    begin = shift_at(now, daemon.site.shifts).begin if since is None else max(since, _EARLIEST, end - _LONGEST)
    return min(begin, end), end


async def _units(daemon: Daemon, unit: OfUnit = None) -> tuple[Unit, ...]:
    if unit is None:
        return counted_once(daemon.site)
    known = {one.name: one for one in all_units(daemon.site)}
    if unit not in known:
        raise HTTPException(404, f"there is no pipeline and no part {unit}, known are {', '.join(known)}")
    return (known[unit],)


async def _downloads(request: Request) -> OneAtATime:
    return request.app.state.downloads


Time = Annotated[tuple[datetime, datetime], Depends(_time)]
Units = Annotated[tuple[Unit, ...], Depends(_units)]
Downloads = Annotated[OneAtATime, Depends(_downloads)]


def _question(daemon: Daemon, time: Time, units: Units, by: GroupedBy = "shift") -> ReportQuery:  # reads the database
    if by == "order":
        periods = daemon.store.production.orders.between(*time)
    else:
        periods = shifts_between(*time, daemon.site.shifts) if by == "shift" else days_between(*time)
    # Before the first order nothing counts: the time of a report is that of its periods.
    return ReportQuery(by, tuple(within(periods, *time)) or (Period("", time[1], time[1]),), units)


async def _wanted(
    time: Time,
    pipeline: Annotated[str | None, Query(pattern=NAME)] = None,
    decision: Annotated[DetectorDecision | None, Query()] = None,
    batch: Annotated[Value | None, Query()] = None,
    recipe: Annotated[Value | None, Query()] = None,
    marked: Annotated[bool, Query(description="Only marked verdicts.")] = False,
) -> VerdictQuery:
    return VerdictQuery(*time, pipeline=pipeline, decision=decision, batch=batch, recipe=recipe, marked=marked)


Asked = Annotated[ReportQuery, Depends(_question)]
Chosen = Annotated[VerdictQuery, Depends(_wanted)]


@routes.get("/counters")
def counters(daemon: Daemon) -> CountersAnswer:
    """Count the current shift and order, for each pipeline and part."""
    production, once = daemon.store.production, counted_once(daemon.site)
    now = datetime.now(timezone.utc)
    shift = shift_at(now, daemon.site.shifts)
    order = next(iter(production.orders.newest(limit=1)), None)
    since = None if order is None else running(order, now)
    units: list[UnitAnswer] = []
    sums: dict[str, list[Tally]] = {"shift": [], "order": []}
    for unit in all_units(daemon.site):
        found = {"shift": production.count(unit, shift), "order": since and production.count(unit, since)}
        given = {name: tally for name, tally in found.items() if tally is not None}
        for name, tally in given.items() if unit in once else ():
            sums[name].append(tally)
        answer = {"order": None} | {name: tally_answer(tally) for name, tally in given.items()}
        about = {"unit": unit.name, "is_part": unit.is_part, "counts_once": unit in once}
        units.append(UnitAnswer.model_validate(about | answer))
    totals = {name: tally_answer(total(of)) if name == "shift" or order else None for name, of in sums.items()}
    return CountersAnswer.model_validate({"shift": shift._asdict(), "order": order, "units": units, "total": totals})


@routes.get("/series")
def series(
    daemon: Daemon,
    units: Units,
    of: Annotated[Literal["shift", "day"], Query(description="Current shift, or today.")] = "shift",
) -> SeriesAnswer:
    """Count each hour of the current shift, or of today."""
    now = datetime.now(timezone.utc)
    period = shift_at(now, daemon.site.shifts if of == "shift" else {})
    found = [daemon.store.production.by_hour(unit, period) for unit in units]
    hours = [
        tally_answer(total(tallies), HourAnswer, begin=hour.begin, end=hour.end)
        for hour, *tallies in zip(hours_of(period), *found, strict=False)
    ]
    return SeriesAnswer(**period._asdict(), hours=hours)


@routes.get("/orders")
def list_orders(daemon: Daemon, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> list[OrderAnswer]:
    """List orders, the current one first."""
    return [OrderAnswer.model_validate(row) for row in daemon.store.production.orders.newest(limit=limit)]


@routes.post("/orders")
def start_order(given: NewOrder, daemon: Daemon, address: ClientAddress) -> Done:
    """Start an order: its counters begin at 0, and the order before ends; audited."""
    daemon.store.production.orders.start(name=given.name, batch=given.batch, by=named(given.by, address))
    return Done(done=f"order {given.name} has started" if given.name else "the counters of the order begin at 0")


@routes.get("/report")
def report(daemon: Daemon, asked: Asked, downloads: Downloads) -> ReportAnswer:
    """Count a period in groups, each with its yield, and list people's marks; only one report runs at a time."""
    begin, end = span(asked.periods)
    with downloads.turn():
        groups = daemon.store.production.report(asked)
        alone = len(asked.units) == 1 and not asked.units[0].is_part
        marks = daemon.store.production.marks(VerdictQuery(begin, end, asked.units[0].name if alone else None))
    answers = [
        GroupAnswer(
            name=group.name,
            begin=group.begin,
            end=group.end,
            total=tally_answer(total(group.units.values())),
            units={name: tally_answer(tally) for name, tally in group.units.items()},
        )
        for group in groups
    ]
    device = daemon.site.fleet.name if daemon.site.fleet else gethostname()
    answer = {"device": device, "by": asked.by, "begin": begin, "end": end, "groups": answers, "marks": marks}
    return ReportAnswer.model_validate({**answer, "total": tally_answer(sum_of(groups))})


@routes.get("/report/table", response_class=Response, responses=_TABLE)
def report_table(daemon: Daemon, asked: Asked, downloads: Downloads, kind: Kind = "csv") -> Response:
    """Return a report as a table: a row for each pipeline or part of each group."""
    with downloads.turn():
        data = daemon.store.production.report_file(asked, kind)
    headers = {"Content-Disposition": f'attachment; filename="{_name("report", span(asked.periods))}.{kind}"'}
    return Response(data, media_type=_TYPES[kind], headers=headers)


@routes.get("/verdicts", response_class=Response, responses=_TABLE)
def verdicts(daemon: Daemon, wanted: Chosen, time: Time, downloads: Downloads, kind: Kind = "csv") -> Response:
    """Stream the verdicts of a period as a table; too many are refused."""
    production = daemon.store.production
    return downloads.hand_out(
        lambda: production.verdicts_file(wanted, kind), _TYPES[kind], f"{_name('verdicts', time)}.{kind}"
    )


@routes.get("/images", response_class=Response, responses=_ZIP)
def images(daemon: Daemon, wanted: Chosen, time: Time, downloads: Downloads) -> Response:
    """Stream the images of a period's verdicts as a ZIP file; too many are refused."""
    production = daemon.store.production
    return downloads.hand_out(lambda: production.images_file(wanted), "application/zip", f"{_name('images', time)}.zip")


@routes.get("/images/size")
def images_size(daemon: Daemon, wanted: Chosen, downloads: Downloads) -> ImagesAnswer:
    """Report the number and size of a period's images, before `images` requests them; too many are refused."""
    with downloads.turn():
        verdicts, size = daemon.store.production.images_size(wanted)
    return ImagesAnswer(verdicts=verdicts, mib=size / 2**20)


def _name(what: str, time: tuple[datetime, datetime]) -> str:
    return "-".join((what, *(f"{at.astimezone():%Y%m%dT%H%M}" for at in time)))
