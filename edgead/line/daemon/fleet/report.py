"""Report that a device makes of itself, and the topics under which a broker keeps it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from edgead.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgead.line.daemon.fleet.followers import RunningFollower
    from edgead.line.daemon.pipeline import Pipeline

SCHEMA: Literal[1] = 1
REPORT, STATE = "report", "state"
ONLINE, OFFLINE = b"online", b"offline"
_MAX_BYTES = 256 << 10
_Text = Annotated[str, Field(max_length=1024)]


class PipelineReport(BaseModel):
    """One pipeline of a device.

    Attributes
    ----------
    state : str
        starting, running, fault or stopped; `reason` of it.
    model : str
        Hash of the manifest of the model in service; empty where none is.
    self_test : {"passed", "failed"} or None
        Of what the tag leads to: passed where it is in service, failed where it was refused; None before.
    follows : str or None
        The tag; None where the site file alone says what judges.
    following : str or None
        waiting, current, refused or pinned; `why` of the last two.
    tag_digest, digest : str or None
        Where the tag leads, and what is in service of it; None for the model of the site file.
    problem : str or None
        Why the registry could not be asked the last time.
    decisions : dict of int
        Verdicts since the daemon has started, by ok, review and reject.
    """

    state: _Text
    reason: _Text | None = None
    model: _Text = ""
    self_test: Literal["passed", "failed"] | None = None
    follows: _Text | None = None
    following: Literal["waiting", "current", "refused", "pinned"] | None = None
    why: _Text | None = None
    tag_digest: _Text | None = None
    digest: _Text | None = None
    problem: _Text | None = None
    decisions: dict[_Text, int] = {}

    @property
    def ok_share(self) -> float | None:
        """Share of good parts; None before the first verdict."""
        judged = sum(self.decisions.values())
        return self.decisions.get("ok", 0) / judged if judged else None


class DeviceReport(BaseModel):
    """One device: its name, when it said this, its edgead, how often it speaks, and its pipelines by name."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = SCHEMA
    device: _Text
    at: datetime
    edgead: _Text
    every_s: Annotated[float, Field(gt=0)]
    pipelines: Annotated[dict[_Text, PipelineReport], Field(max_length=256)]

    def dump(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()

    @property
    def said(self) -> dict[str, Any]:
        """What a change of is reported at once: all but the time and the counts."""
        return self.model_dump(exclude={"at": True, "pipelines": {"__all__": {"decisions"}}})


def read_report(payload: bytes) -> DeviceReport | None:
    """Read a report; None where it is none that this version knows."""
    try:
        return DeviceReport.model_validate_json(payload) if len(payload) <= _MAX_BYTES else None
    except ValidationError:
        return None


def make_report(
    device: str, every_s: float, pipelines: Mapping[str, Pipeline], followers: Mapping[str, RunningFollower]
) -> DeviceReport:
    """Describe a device as it is now."""
    reported = {name: _of(pipeline, followers.get(name)) for name, pipeline in pipelines.items()}
    now = datetime.now(timezone.utc)
    return DeviceReport(device=device, at=now, edgead=__version__, every_s=every_s, pipelines=reported)


def _of(pipeline: Pipeline, follower: RunningFollower | None) -> PipelineReport:
    found = pipeline.status()
    report = PipelineReport(
        state=found.state, reason=_short(found.reason), model=found.model_sha256, decisions=found.decisions
    )
    if follower is None:
        return report
    status = follower.status
    passed: dict[str, Literal["passed", "failed"]] = {"current": "passed", "refused": "failed"}
    update = {
        "self_test": passed.get(status.state),
        "follows": status.source,
        "following": status.state,
        "why": _short(status.reason),
        "tag_digest": status.tag_digest,
        "digest": status.digest,
        "problem": _short(status.problem),
    }
    return report.model_copy(update=update)


def _short(text: str | None) -> str | None:
    return text and text[:500]
