"""Sink `otel`: sends each frame as an OpenTelemetry trace, with a span for each stage, by OTLP over HTTP (protobuf).

The stages are named in `edgead.profiling.latency.STAGES`, and placed end to end from capture to verdict; for a model
with tiles, a stage is the sum over all tiles. Then the span `handover` lasts until this sink has the verdict; the time
of the sinks themselves is not known yet. The trace has the frame's id.
"""

from __future__ import annotations

import logging
import os
import time
from itertools import accumulate
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from edgead.components.options import WebhookUrl, read_query
from edgead.components.uri import origin
from edgead.errors import SettingsError
from edgead.process.installation import plugin_command
from edgead.sinks import BaseSink, SinkOptions, register
from edgead.types import Frame, PartVerdict, Verdict
from edgead.version import __version__

_STAGES = ("age", "preprocess", "infer", "score", "smooth")
# These loggers report every few seconds that the collector is unreachable; the sink's `problem` reports it once.
for _name in ("exporter.otlp.proto.http.trace_exporter", "sdk._shared_internal"):
    logging.getLogger(f"opentelemetry.{_name}").setLevel(logging.CRITICAL)


class OtelOptions(SinkOptions):
    """Frames as traces to a collector of OpenTelemetry (`pip install 'edgead-tracking[otel]'`)."""

    kind: Literal["otel"]
    endpoint: Annotated[
        WebhookUrl,
        Field(
            description="Collector that takes OTLP over HTTP, such as http://10.0.0.9:4318; by default that of "
            "OTEL_EXPORTER_OTLP_ENDPOINT, or this machine's.",
            default_factory=lambda: os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"),
        ),
    ]
    one_in: Annotated[
        int, Field(ge=1, le=10**6, description="One in so many ok frames; all frames that are not ok.")
    ] = 1
    queued: ClassVar[bool] = True


class OtelSink(BaseSink):
    """Sink that passes spans to OpenTelemetry's queue; a thread exports them, so that no frame waits for the collector.

    While the collector is away, the oldest spans beyond 2048 (OTEL_BSP_MAX_QUEUE_SIZE), and those of attempts that
    failed for ten seconds (OTEL_EXPORTER_OTLP_TIMEOUT), are lost.
    """

    needs_image = False

    def __init__(self, options: OtelOptions):
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            from edgead_tracking.otel_export import Exporter, FrameIds
        except ModuleNotFoundError:
            raise SettingsError(f"otel needs `{plugin_command('edgead-tracking[otel]')}`") from None
        self.uri = f"otel:{origin(options.endpoint)}"
        self._one_in, self._good = options.one_in, 0
        self._exporter = Exporter(endpoint=f"{options.endpoint.rstrip('/')}/v1/traces")
        self._ids = FrameIds()
        name = os.environ.get("OTEL_SERVICE_NAME", "edgead")
        self._provider = TracerProvider(
            id_generator=self._ids,
            resource=Resource.create({"service.name": name, "service.version": __version__}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("edgead", __version__)

    @property
    def problem(self) -> str | None:
        return f"{self.uri}: the collector did not take the last spans" if self._exporter.failed else None

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Create the spans of a frame; a whole part's verdict gets no spans, as each view has spans of its own."""
        taken_ns = time.perf_counter_ns()
        if isinstance(verdict, PartVerdict) or not self._is_wanted(verdict):
            return
        from opentelemetry.trace import set_span_in_context

        self._ids.next = UUID(frame.id).int if frame.id else None
        captured_ns = round(frame.captured_at.timestamp() * 1e6) * 1000  # a float holds no nanoseconds
        root = self._tracer.start_span("frame", start_time=captured_ns, attributes=_attributes(frame, verdict))
        inside = set_span_in_context(root)
        took_ns = [round((getattr(verdict.stage_times, f"{name}_ms") or 0.0) * 1e6) for name in _STAGES]
        *begins, judged_ns = accumulate(took_ns, initial=captured_ns)
        ends = [*begins[1:], judged_ns, max(judged_ns, captured_ns + taken_ns - frame.captured_ns)]
        for name, begin_ns, end_ns in zip((*_STAGES, "handover"), (*begins, judged_ns), ends, strict=True):
            self._tracer.start_span(name, inside, start_time=begin_ns).end(end_ns)
        root.end(judged_ns)

    def close(self) -> None:
        """Export waiting spans if the collector accepted the last export; else drop them instead of waiting in vain."""
        if self._exporter.failed:
            self._exporter.shutdown()
        self._provider.shutdown()

    def _is_wanted(self, verdict: Verdict) -> bool:
        if verdict.decision != "ok":
            return True
        self._good += 1
        return (self._good - 1) % self._one_in == 0


def _attributes(frame: Frame, verdict: Verdict) -> dict[str, str | float | int]:
    return {
        "edgead.pipeline": verdict.pipeline,
        "edgead.frame.number": frame.number,
        "edgead.decision": verdict.decision,
        "edgead.score": float(verdict.image_score),
        "edgead.threshold": float(verdict.threshold),
        "edgead.model": verdict.model,
        "edgead.part.serial": frame.part.serial,
    }


def _read_uri(uri: str) -> dict[str, str]:
    url, _, query = uri.partition(":")[2].partition("?")
    return {**({"endpoint": url} if url else {}), **read_query(query, ("one_in",))}


register(
    "otel",
    OtelOptions,
    lambda name, options: OtelSink(options),
    schemes={"otel": "otel:http://HOST:4318?one_in=100"},
    read_uri=_read_uri,
)
