"""Interfaces of the daemon for the web server, with helpers over them: readiness, and units of counting.

The server knows nothing else of the daemon.
"""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgead.line.evidence.production.counts import Unit
from edgead.line.evidence.production.periods import Period
from edgead.line.site.schema import Site
from edgead.serialization.notice import News, Notice, NoticeKind, Severity
from edgead.types import NO_PART, Frame, Part, Verdict

if TYPE_CHECKING:
    from edgead.images.likeness import Size
    from edgead.line.evidence.store import EvidenceStore
    from edgead.line.site.status import PartStatus, PipelineStatus
    from edgead.sinks.queued import QueueStatus
    from edgead.sources.supervised import CameraStatus


class ServedCamera(Protocol):
    def status(self) -> CameraStatus: ...

    def latest(self) -> Frame | None: ...


class ServedPipeline(Protocol):
    def status(self) -> PipelineStatus: ...

    def latest(self) -> tuple[Frame, Verdict] | None: ...

    def fire(self, part: Part = NO_PART) -> None: ...

    def judge(self, data: bytes, part: Part, within_s: float) -> tuple[Frame, Verdict]: ...

    def squeezed_into(self, frame: Frame) -> Size | None: ...

    def has_learnt(self, frame: Frame, data: bytes) -> bool: ...

    def self_test(self) -> dict[str, Any]: ...

    def swap(self, model: Path, *, by: str) -> None: ...

    def roll_back(self, *, by: str) -> None: ...

    def accept_drift(self, *, by: str) -> None: ...

    def pause(self, *, by: str, reason: str = "", minutes: float | None = None) -> None: ...

    def resume(self, *, by: str) -> None: ...

    def good_scores(self) -> Any: ...

    def set_thresholds(
        self, *, review: float, reject: float, by: str, reason: str = ..., bad: Sequence[float] = ...
    ) -> None: ...


class ServedSink(Protocol):
    def status(self) -> QueueStatus: ...


class ServedParts(Protocol):
    def status(self) -> PartStatus: ...


class ServedNotices(Protocol):
    def standing(self) -> list[Notice]: ...

    def resolved(self, limit: int) -> list[Notice]: ...

    def counts(self) -> Mapping[str, Mapping[tuple[NoticeKind, Severity], int]]: ...

    def acknowledge(self, id: str, *, by: str) -> Notice | None: ...


class ServedFollower(Protocol):
    @property
    def status(self) -> Any: ...

    def follow_again(self, *, by: str) -> None: ...


class ServedLessons(Protocol):
    def all(self) -> Sequence[Any]: ...

    def sheet(self, pipeline: str) -> Path | None: ...

    def start(self, pipeline: str, good: Sequence[str], *, by: str, reason: str = "") -> None: ...

    def accept(self, pipeline: str, *, by: str) -> None: ...

    def discard(self, pipeline: str, *, by: str) -> None: ...


class ServedHeaps(Protocol):
    def of(self, pipeline: str) -> dict[str, Any]: ...

    def sort(self, pipeline: str, since: datetime) -> None: ...

    def name(self, pipeline: str, heaps: Mapping[str, Sequence[str]], *, by: str) -> None: ...

    def discard(self, pipeline: str) -> None: ...


class ServedCommissioning(Protocol):
    def drafts(self) -> list[dict[str, Any]]: ...

    def draft(self, camera: str) -> dict[str, Any] | None: ...

    def begin(self, camera: str, by: str) -> None: ...

    def discard(self, camera: str, by: str) -> None: ...

    def change(self, camera: str, drawn: Mapping[str, Any], *, revision: int, by: str) -> None: ...

    def take(self, camera: str) -> dict[str, Any]: ...

    def begin_sending(self, camera: str, folder: str, images: int, by: str) -> dict[str, str]: ...

    def send(self, camera: str, data: bytes, file: str = "") -> dict[str, Any]: ...

    def collect(self, camera: str, mode: str, every_s: float | None) -> None: ...

    def move_image(self, camera: str, name: str, change: Literal["remove", "restore"], by: str) -> None: ...

    def image(self, camera: str, name: str) -> Path: ...

    def map_of(self, camera: str, name: str) -> Path | None: ...

    def learn(self, camera: str) -> None: ...

    def cancel(self, camera: str) -> None: ...

    def go(self, camera: str, model: str, pipeline: str | None, by: str) -> dict[str, Any]: ...


class Served(Protocol):
    @property
    def site(self) -> Site: ...

    @property
    def cameras(self) -> Mapping[str, ServedCamera]: ...

    @property
    def pipelines(self) -> Mapping[str, ServedPipeline]: ...

    @property
    def parts(self) -> Mapping[str, ServedParts]: ...

    @property
    def followers(self) -> Mapping[str, ServedFollower]: ...

    @property
    def sinks(self) -> Mapping[str, ServedSink]: ...

    @property
    def notices(self) -> ServedNotices: ...

    @property
    def store(self) -> EvidenceStore: ...

    @property
    def lessons(self) -> ServedLessons: ...

    @property
    def heaps(self) -> ServedHeaps: ...

    @property
    def commissioning(self) -> ServedCommissioning: ...

    def subscribe_verdicts(self) -> queue.Queue[News]: ...


def pipelines_waited_for(daemon: Served) -> list[str]:
    """Name the pipelines that are not in service; a paused one is in service."""
    # Copied, here and below: a reload may change the dictionary meanwhile.
    return [name for name, pipeline in daemon.pipelines.items() if pipeline.status().state not in ("running", "paused")]


def failing_sinks(daemon: Served) -> dict[str, str]:
    """Map the required sinks that have failed for too long to a reason without an address."""
    found = [sink.status() for sink in daemon.sinks.values()]
    return {one.name: f"is required and has failed for {one.failing_s:.0f} s" for one in found if one.blocks}


def counted_once(site: Site) -> tuple[Unit, ...]:
    """List the units that count each part once: parts of several views, and pipelines that are no view."""
    views = {view for part in site.parts.values() for view in part.pipelines}
    alone = [Unit(name) for name in site.pipelines if name not in views]
    return (*(Unit(name, is_part=True) for name in site.parts), *alone)


def all_units(site: Site) -> tuple[Unit, ...]:
    """List the units of all parts and all pipelines."""
    return (*(Unit(name, is_part=True) for name in site.parts), *map(Unit, site.pipelines))


def running(order: Mapping[str, Any], now: datetime) -> Period:
    """Return the period of the current order: up to an hour from now, so that all callers share one cached count."""
    return Period(order["name"], datetime.fromisoformat(order["started_at"]), now + timedelta(hours=1))
