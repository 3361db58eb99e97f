"""Prometheus metrics of the daemon, read from the status of its components at each request.

Counts of the current shift and order come from the evidence store, so that they survive a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from edgead.errors import EdgeadError
from edgead.line.evidence.production.periods import Period
from edgead.line.site.shifts import shift_at
from edgead.line.web.contract import all_units, running
from edgead.profiling.latency import BUCKETS_MS
from edgead.version import __version__

if TYPE_CHECKING:
    from edgead.line.site.status import PartStatus, PipelineStatus
    from edgead.line.web.contract import Served
    from edgead.sinks.queued import QueueStatus
    from edgead.sources.reopened_camera import CameraStatus

_DECISIONS = ("ok", "review", "reject", "fault", "false_rejects", "known_escapes")
_YIELDS = {"first": "yield", "after_review": "yield_after_review"}
_CAMERA_STATES = ("connecting", "streaming", "stalled", "lost", "ended")
_PIPELINE_STATES = ("starting", "running", "paused", "fault", "stopped")
_HEALTH = ("dark", "bright", "blurred", "moved", "frozen")
_QUANTILES = {"0.5": "p50_ms", "0.9": "p90_ms", "0.99": "p99_ms", "0.999": "p99_9_ms", "1": "max_ms"}


def shift_metrics(daemon: Served) -> Iterator[Metric]:
    """Collect the figures of the current shift and order; none while the database cannot be read."""
    now = datetime.now(timezone.utc)
    shift = shift_at(now, daemon.site.shifts)
    started = GaugeMetricFamily(
        "edgead_shift_started_seconds", "When this shift began, in Unix time.", labels=("shift",)
    )
    started.add_metric((shift.name,), shift.begin.timestamp())
    yield started
    yield from _of("shift", daemon, shift)
    yield from _of("order", daemon, _order(daemon, now))


def _order(daemon: Served, now: datetime) -> Period | None:
    if not daemon.site.pipelines:
        return None
    try:
        found = daemon.store.production.orders.newest(limit=1)
    except EdgeadError:
        return None  # the store reports it itself
    return running(found[0], now) if found else None


def _of(what: str, daemon: Served, period: Period | None) -> Iterator[Metric]:
    counts = GaugeMetricFamily(
        f"edgead_{what}_parts",
        f"Parts of this {what}; people found false_rejects, of review and reject, good, and known_escapes, of ok, bad.",
        labels=("unit", "decision"),
    )
    yields = GaugeMetricFamily(
        f"edgead_{what}_yield",
        f"The share of good parts of this {what}: as decided first, and after_review as people marked.",
        labels=("unit", "kind"),
    )
    for unit, figures in _figures(daemon, period):
        for name in _DECISIONS:
            counts.add_metric((unit, name), figures[name])
        for kind, name in _YIELDS.items():
            if figures[name] is not None:
                yields.add_metric((unit, kind), figures[name])
    yield counts
    yield yields


def _figures(daemon: Served, period: Period | None) -> Iterator[tuple[str, dict[str, Any]]]:
    if period is None:
        return
    for unit in all_units(daemon.site):
        try:
            yield unit.name, daemon.store.production.count(unit, period).figures()
        except EdgeadError:
            return  # the store reports it itself


def build_registry(daemon: Served) -> CollectorRegistry:
    """Make a registry with the metrics of this daemon and its process: memory, CPU time, open files."""
    registry = CollectorRegistry()
    registry.register(DaemonCollector(daemon))
    ProcessCollector(registry=registry)
    return registry


class DaemonCollector(Collector):
    """Collector of all metrics of the daemon; it reads each status once per request."""

    def __init__(self, daemon: Served):
        self._daemon = daemon

    def collect(self) -> Iterator[Metric]:
        daemon = self._daemon
        yield InfoMetricFamily("edgead", "The program that runs.", value={"version": __version__})
        yield from _of_cameras([camera.status() for camera in daemon.cameras.values()])
        pipelines = [pipeline.status() for pipeline in daemon.pipelines.values()]
        yield from _of_pipelines(pipelines)
        yield from _latencies(pipelines)
        yield from _of_parts([parts.status() for parts in list(daemon.parts.values())])
        yield from _of_sinks([sink.status() for sink in daemon.sinks.values()])
        yield from _of_notices(daemon.notices.counts())
        yield from shift_metrics(daemon)
        yield from _of_evidence(daemon.store.status(), daemon.store.problems())

    def describe(self) -> Iterable[Metric]:
        return ()  # parts are not read before they run


def _of_cameras(cameras: list[CameraStatus]) -> Iterator[Metric]:
    label, rows = ("camera",), partial(_rows, cameras)
    yield _gauge("edgead_camera_fps", "Frames that a camera gives in a second.", label, rows("fps"))
    yield _gauge("edgead_frame_age_seconds", "Age of the newest frame.", label, rows("age_s"))
    yield _counter("edgead_frames_captured", "Frames that a camera gave.", label, rows("captured"))
    yield _counter("edgead_reconnects", "How often a camera was opened again.", label, rows("reconnects"))
    unread = "Frames that could not be decoded, and files that hold no image."
    yield _counter("edgead_frames_corrupt", unread, label, rows("corrupt"))
    yield _counter("edgead_frames_duplicate", "Frames equal to the one before.", label, rows("duplicates"))
    yield _counter(
        "edgead_packets_lost", "Packets of a GenICam camera that did not arrive.", label, rows("lost_packets")
    )
    yield _counter("edgead_frames_lost", "Frames of a GenICam camera that did not arrive.", label, rows("lost_frames"))
    states = {(one.name, state): one.state == state for one in cameras for state in _CAMERA_STATES}
    yield _gauge("edgead_camera_state", "1 for the state that a camera is in.", ("camera", "state"), states)
    health = {(one.name, issue): issue in one.health for one in cameras for issue in _HEALTH}
    yield _gauge("edgead_camera_unhealthy", "1 for what is wrong with the images.", ("camera", "problem"), health)


def _of_pipelines(pipelines: list[PipelineStatus]) -> Iterator[Metric]:
    label, rows = ("pipeline",), partial(_rows, pipelines)
    decided = {(one.name, decision): count for one in pipelines for decision, count in one.decisions.items()}
    yield _counter("edgead_verdicts", "Verdicts.", ("pipeline", "decision"), decided)
    kinds = {(one.name, kind): count for one in pipelines for kind, count in one.kinds.items()}
    yield _counter("edgead_rejects_by_kind", "Rejects by the kind of their defect.", ("pipeline", "kind"), kinds)
    reasons = {"stale": "dropped", "fault": "skipped", "pause": "uninspected"}
    dropped = {(one.name, why): getattr(one, count) for one in pipelines for why, count in reasons.items()}
    yield _counter(
        "edgead_frames_dropped",
        "Frames without a verdict: a newer one replaced them, or the pipeline was in fault or paused.",
        ("pipeline", "reason"),
        dropped,
    )
    yield _counter("edgead_verdicts_late", "Verdicts over the budget.", label, rows("late"))
    yield _counter("edgead_parts_missed", "Parts that were named and got no verdict.", label, rows("parts_missed"))
    codes = {(p.name, result): count for p in pipelines for result, count in p.codes.items()}
    yield _counter("edgead_part_codes", "Codes of parts by what became of them.", ("pipeline", "result"), codes)
    yield _counter("edgead_restarts", "Restarts of a pipeline.", label, rows("restarts"))
    states = {(one.name, state): one.state == state for one in pipelines for state in _PIPELINE_STATES}
    yield _gauge("edgead_pipeline_state", "1 for the state that a pipeline is in.", ("pipeline", "state"), states)
    refused = {(p.name,): p.realtime_problem is not None for p in pipelines}
    yield _gauge("edgead_realtime_refused", "1 where the system refuses priority or cores.", label, refused)
    warned = {(p.name, cause): p.drift.cause == cause for p in pipelines if p.drift for cause in ("camera", "product")}
    yield _gauge("edgead_drift_warning", "1 while parts or images have changed.", ("pipeline", "cause"), warned)
    thresholds = {(p.name, kind): value for p in pipelines for kind, value in (p.thresholds or {}).items()}
    yield _gauge("edgead_threshold", "Scores above it are for review or rejected.", ("pipeline", "kind"), thresholds)


def _latencies(pipelines: list[PipelineStatus]) -> Iterator[Metric]:
    """Make the metrics of latencies: quantiles over the newest frames, and a histogram of all frames."""
    name = "edgead_latency_seconds"
    text = "Time that a frame spent in a stage; total is from the capture to the last sink."
    summary = Metric(name, text, "summary")
    histogram = HistogramMetricFamily("edgead_stage_seconds", text, labels=("pipeline", "stage"))
    ends = [*(str(end_ms / 1e3) for end_ms in BUCKETS_MS), "+Inf"]
    for one in pipelines:
        for stage, latency in one.latency.items():
            labels, sum_s = {"pipeline": one.name, "stage": stage}, latency.n * latency.mean_ms / 1e3
            for quantile, field in _QUANTILES.items():
                if (value_ms := getattr(latency, field)) is not None:
                    summary.add_sample(name, {**labels, "quantile": quantile}, value_ms / 1e3)
            summary.add_sample(f"{name}_sum", labels, sum_s)
            summary.add_sample(f"{name}_count", labels, latency.n)
            histogram.add_metric((one.name, stage), [*zip(ends, accumulate(latency.counts), strict=True)], sum_s)
    yield summary
    yield histogram


def _of_parts(parts: list[PartStatus]) -> Iterator[Metric]:
    decided = {(one.name, decision): count for one in parts for decision, count in one.decisions.items()}
    text = "Verdicts of several pipelines together; fault where a view is missing."
    yield _counter("edgead_part_verdicts", text, ("part", "decision"), decided)
    text = "Views too late, or of several parts."
    yield _counter("edgead_part_views_unmatched", text, ("part",), _rows(parts, "unmatched"))


def _of_sinks(sinks: list[QueueStatus]) -> Iterator[Metric]:
    label, rows = ("sink",), partial(_rows, sinks)
    yield _gauge("edgead_sink_waiting", "Verdicts that a sink has not taken yet.", label, rows("waiting"))
    yield _counter("edgead_sink_written", "Verdicts that a sink took.", label, rows("written"))
    yield _counter("edgead_sink_dropped", "Verdicts pushed out of a full queue.", label, rows("dropped"))
    yield _counter("edgead_sink_failed", "Verdicts that a sink refused.", label, rows("failed"))
    yield _gauge("edgead_sink_failing_seconds", "How long a sink has taken nothing.", label, rows("failing_s"))
    yield _counter("edgead_sink_notices_lost", "Notices that a sink did not take.", label, rows("notices_lost"))
    faulty = {(sink.name,): sink.problem is not None for sink in sinks}
    yield _gauge("edgead_sink_faulty", "1 where something is wrong with a sink.", label, faulty)


def _of_notices(counts: Mapping[str, Mapping[Any, int]]) -> Iterator[Metric]:
    label = ("kind", "severity")
    yield _gauge("edgead_notices_open", "Alarms, faults and warnings that stand.", label, dict(counts["open"]))
    yield _counter("edgead_notices", "Those that were raised.", label, dict(counts["raised"]))


def _of_evidence(status: dict[str, Any], problems: Iterable[str]) -> Iterator[Metric]:
    yield _gauge("edgead_evidence_problems", "What is wrong with the evidence store.", (), {(): len(tuple(problems))})
    yield _counter("edgead_evidence_rows_lost", "Records that were lost.", (), {(): status["rows_lost"]})
    yield _gauge("edgead_evidence_rows_waiting", "Records not written yet.", (), {(): status["rows_waiting"]})
    yield _counter("edgead_images_written", "Images kept.", (), {(): status["images_written"]})
    yield _counter(
        "edgead_images_dropped", "Images not kept for want of disk or time.", (), {(): status["images_dropped"]}
    )
    yield _gauge("edgead_images_bytes", "What the images take.", (), {(): status["images_mib"] * 2**20})


def _rows(parts: Iterable[Any], name: str) -> dict[tuple[str], Any]:
    return {(one.name,): getattr(one, name) for one in parts}


def _gauge(name: str, text: str, labels: tuple[str, ...], rows: dict[Any, Any]) -> Metric:
    return _filled(GaugeMetricFamily(name, text, labels=labels), rows)


def _counter(name: str, text: str, labels: tuple[str, ...], rows: dict[Any, Any]) -> Metric:
    return _filled(CounterMetricFamily(name, text, labels=labels), rows)


def _filled(family: Any, rows: dict[Any, Any]) -> Metric:
    for labels, value in rows.items():
        if value is not None:
            family.add_metric(labels, float(value))
    return family
