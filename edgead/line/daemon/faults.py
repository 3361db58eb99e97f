"""Present faults, found only from the status of a site and its components."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Protocol

from edgead.line.daemon.alarms import Finding
from edgead.serialization.notice import NoticeKey, Severity

if TYPE_CHECKING:
    from edgead.line.daemon.judge_and_deliver import Misfits
    from edgead.line.daemon.pipeline import Pipeline
    from edgead.line.evidence import EvidenceStore
    from edgead.sinks.queued import QueuedSink
    from edgead.sources.reopened_camera import SupervisedCamera

STORE, SITE = "evidence", "site"
# Most characters of a broken file's problems; the log has them all.
_LONGEST = 500


class SiteParts(Protocol):
    """Components of a site whose status is read."""

    @property
    def cameras(self) -> Mapping[str, SupervisedCamera]: ...
    @property
    def pipelines(self) -> Mapping[str, Pipeline]: ...
    @property
    def sinks(self) -> Mapping[str, QueuedSink]: ...
    @property
    def store(self) -> EvidenceStore: ...
    @property
    def refused(self) -> str: ...
    @property
    def refused_site(self) -> str: ...


@dataclass(frozen=True, slots=True)
class FaultReport:
    """Present faults, and faults not known yet, because a camera connects or a model loads."""

    standing: dict[NoticeKey, Finding]
    unknown: frozenset[NoticeKey]


def find_faults(parts: SiteParts) -> FaultReport:
    """Read the status of all components of a site once; a camera's fault is not repeated for its pipelines."""
    standing: list[Finding] = []
    unknown: set[NoticeKey] = set()
    for camera in parts.cameras.values():
        _of_camera(camera, standing, unknown)
    for pipeline in parts.pipelines.values():
        _of_pipeline(pipeline, standing, unknown)
        _of_format(pipeline.name, pipeline.misfits, standing, unknown)
    standing += _of_sinks(parts.sinks.values())
    if problems := parts.store.problems():
        standing.append(Finding("evidence", STORE, "; ".join(problems), "critical"))
    if refused := "; ".join(parts.refused.splitlines()):
        what = "the site file" if parts.refused_site else "some of the site file"
        text = f"{what} is not in force: {shorten(refused, _LONGEST)}"
        standing.append(Finding("site", SITE, text, "warning"))
    return FaultReport({finding.key: finding for finding in standing}, frozenset(unknown))


def _of_camera(camera: SupervisedCamera, standing: list[Finding], unknown: set[NoticeKey]) -> None:
    status = camera.status()
    if status.state in ("lost", "stalled"):
        text = f"{status.state}: {status.reason}" if status.reason else status.state
        standing.append(Finding("camera", status.name, text, "critical"))
    if status.state == "connecting":
        unknown.add(("camera", status.name))
    if status.state != "streaming":
        unknown.add(("images", status.name))
    elif status.health:
        standing.append(Finding("images", status.name, f"images are {', '.join(status.health)}", "warning"))


def _of_pipeline(pipeline: Pipeline, standing: list[Finding], unknown: set[NoticeKey]) -> None:
    name, drift = pipeline.name, pipeline.drift
    reasons = [reason for kind, reason in pipeline.faults.items() if kind != "camera"]
    if reasons:
        standing.append(Finding("pipeline", name, reasons[0], "critical"))
    if pipeline.state == "starting":
        unknown.add(("pipeline", name))
    if drift is None and pipeline.section.drift is not None:
        unknown.add(("drift", name))
    elif drift is not None and drift.state == "warning":
        standing.append(Finding("drift", name, drift.reason or "parts or images have changed", "warning"))


def _of_format(name: str, misfits: Misfits, standing: list[Finding], unknown: set[NoticeKey]) -> None:
    if not misfits.known:
        unknown.add(("frame_format", name))
    elif (newest := misfits.newest) is not None:
        recipe, found = newest
        text = f"recipe {recipe}: {found.text}" if recipe else found.text
        severity: Severity = "warning" if found.what == "small" else "critical"
        standing.append(Finding("frame_format", name, text, severity))


def _of_sinks(sinks: Iterable[QueuedSink]) -> Iterator[Finding]:
    for sink in sinks:
        status = sink.status()
        if status.problem is not None:
            yield Finding("sink", status.name, status.problem, "critical" if status.required else "warning")
