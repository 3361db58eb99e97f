"""Report of a device about itself, and the MQTT topics under which a broker keeps it."""

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
    """Report of one pipeline of a device.

    `state`: starting, running, fault or stopped; with a `reason`.
    `model`: hash of the manifest of the model in service; empty if there is none.
    `self_test` ({"passed", "failed"}): test of the tag's model: passed if it is in service, failed if it was refused;
        None before the test.
    `follows`: tag that names the model; None if the site file does.
    `following`: waiting, current, refused or pinned (a person chose another); `why` explains the last two.
    `tag_digest`, `digest`: digests of the tag and of the model in service; None for the model of the site file.
    `problem`: reason why the last request to the registry failed.
    `decisions`: verdicts since the daemon has started, by ok, review and reject.
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
    """Report of one device: its name, the time, its version of edgead, the interval, and its pipelines by name."""

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
        """Content whose change is sent at once: all except the time and the counts."""
        return self.model_dump(exclude={"at": True, "pipelines": {"__all__": {"decisions"}}})


def read_report(payload: bytes) -> DeviceReport | None:
    """Parse a report; None if this version does not know its form."""
    try:
        return DeviceReport.model_validate_json(payload) if len(payload) <= _MAX_BYTES else None
    except ValidationError:
        return None


def make_report(
    device: str, every_s: float, pipelines: Mapping[str, Pipeline], followers: Mapping[str, RunningFollower]
) -> DeviceReport:
    """Make the report of a device as it is now."""
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
