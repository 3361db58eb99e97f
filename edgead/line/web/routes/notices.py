"""Routes of notices of alarms, faults and drift: standing ones, resolved ones, and acknowledgements."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import Field

from edgead.line.site.status import Answer, Number
from edgead.line.web.auth.callers import named
from edgead.line.web.dependencies import ID, ClientAddress, Daemon
from edgead.line.web.problems import problems
from edgead.line.web.routes.control import Person
from edgead.serialization.notice import About, NoticeEvent, NoticeKind, Severity

routes = APIRouter(prefix="/api/notices", tags=["notices"])


class NoticeAnswer(Answer):
    """Alarm, fault or warning."""

    type: Literal["notice"] = "notice"
    event: Annotated[NoticeEvent, Field(description="Last change of the notice.")]
    id: str
    kind: NoticeKind
    about: Annotated[About, Field(description="Kind of thing that the notice is about.")]
    name: Annotated[str, Field(description="Name of that thing, as in the site file.")]
    severity: Severity
    text: Annotated[str, Field(description="Text in English.")]
    since: datetime
    value: Annotated[Number, Field(description="Value of an alarm when it was raised: parts, per cent or seconds.")]
    value_now: Annotated[Number, Field(description="Yield of now, in per cent, of an alarm of a low yield.")]
    limit: Annotated[Number, Field(description="Limit of an alarm, as in the site file.")]
    resolved_at: datetime | None
    acknowledged_by: str | None
    acknowledged_at: datetime | None


class NoticeList(Answer):
    standing: Annotated[list[NoticeAnswer], Field(description="Current notices, newest first.")]
    resolved: Annotated[list[NoticeAnswer], Field(description="Newest resolved notices, newest first.")]


@routes.get("")
def list_notices(daemon: Daemon, limit: Annotated[int, Query(ge=0, le=200)] = 50) -> NoticeList:
    """List the current alarms, faults and warnings, and the newest resolved ones."""
    notices = daemon.notices
    return NoticeList.model_validate({"standing": notices.standing(), "resolved": notices.resolved(limit)})


@routes.post("/{notice_id}/acknowledge", responses=problems(404))
def acknowledge_notice(
    notice_id: Annotated[str, Path(pattern=ID)], given: Person, daemon: Daemon, address: ClientAddress
) -> NoticeAnswer:
    """Acknowledge a notice: its sound ends, but it stays until it is resolved; only the first person is recorded."""
    notice = daemon.notices.acknowledge(notice_id, by=named(given.by, address))
    if notice is None:
        raise HTTPException(404, f"there is no notice {notice_id}: only those of /api/notices are known")
    return NoticeAnswer.model_validate(notice)
