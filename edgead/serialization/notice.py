"""Notices of alarms, faults and warnings, for people and for other programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from edgead.types import Frame, Verdict

NoticeKind = Literal[
    "rejects_in_a_row",
    "yield_below",
    "no_part",
    "not_inspected",
    "frame_format",
    "camera",
    "images",
    "pipeline",
    "drift",
    "sink",
    "evidence",
    "site",
]
About = Literal["pipeline", "camera", "sink", "store", "site"]
Severity = Literal["warning", "critical"]
NoticeEvent = Literal["raised", "acknowledged", "resolved"]
NoticeKey = tuple[NoticeKind, str]

KINDS: dict[NoticeKind, tuple[About, tuple[Severity, ...]]] = {
    "rejects_in_a_row": ("pipeline", ("critical",)),
    "yield_below": ("pipeline", ("critical",)),
    "no_part": ("pipeline", ("warning",)),
    "not_inspected": ("pipeline", ("warning", "critical")),
    "frame_format": ("pipeline", ("warning", "critical")),
    "camera": ("camera", ("critical",)),
    "images": ("camera", ("warning",)),
    "pipeline": ("pipeline", ("critical",)),
    "drift": ("pipeline", ("warning",)),
    "sink": ("sink", ("warning", "critical")),
    "evidence": ("store", ("critical",)),
    "site": ("site", ("warning",)),
}
"""Subject and possible severities of each kind of notice."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Alarm, fault or warning that a person should know of, while it stands and after it is resolved.

    Attributes
    ----------
    id : str
        Unique identifier, which stays the same until the notice is resolved.
    kind : str
        Alarms: "rejects_in_a_row", "yield_below", "no_part", "not_inspected" (frames without a verdict in time),
        "frame_format" (frames have another format than the model learnt). Faults: "camera" (it gives no frames),
        "images" (they are dark, blurred, moved), "pipeline", "sink", "evidence". Others: "drift", and "site" (the
        changed site file was read but is not in force).
    about : {"pipeline", "camera", "sink", "store", "site"}
        Kind of thing that the notice concerns.
    name : str
        Name of that thing in the site file; "evidence" for the store, "site" for the file itself. At most one notice
        of a kind and name stands at a time.
    severity : {"warning", "critical"}
        Critical: parts are not inspected as they should be, not recorded, or rejected in large number.
    text : str
        Message in English.
    since : datetime
        Time when it was raised: UTC, ISO 8601.
    value : float
        Measured value of an alarm when it was raised: parts in a row, yield or frames in per cent, seconds. Else null.
    value_now : float
        Yield in per cent of now, while the alarm of a low yield stands and parts have come since the start. Else null.
    limit : float
        Limit of an alarm in the site file. Else null.
    resolved_at : datetime
        Time when it was resolved; null while it stands.
    acknowledged_by : str
        User who acknowledged it, with address; null before.
    acknowledged_at : datetime
        Time of the acknowledgement; null before.
    """

    id: str
    kind: NoticeKind
    about: About
    name: str
    severity: Severity
    text: str
    since: datetime
    value: float | None = None
    limit: float | None = None
    resolved_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    value_now: float | None = None

    @property
    def key(self) -> NoticeKey:
        return self.kind, self.name

    @property
    def event(self) -> NoticeEvent:
        """Latest event of the notice."""
        if self.resolved_at is not None:
            return "resolved"
        return "raised" if self.acknowledged_at is None else "acknowledged"


News = tuple[Frame, Verdict] | Notice
"""Live event: a verdict with its frame, or a notice that was raised, acknowledged or resolved."""


def notice_record(notice: Notice) -> dict[str, Any]:
    """Convert a notice to values for JSON; `type` distinguishes it from a verdict, `event` is its latest event."""
    times = {
        name: None if (at := getattr(notice, name)) is None else at.isoformat()
        for name in ("since", "resolved_at", "acknowledged_at")
    }
    return {"type": "notice", "event": notice.event, **asdict(notice), **times}


def notice_json(notice: Notice) -> str:
    """Write the record of a notice as one line of JSON."""
    return json.dumps(notice_record(notice), allow_nan=False, ensure_ascii=False)
