"""Exporter and trace ids of the sink `otel`; imported only if OpenTelemetry is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator


class Exporter(OTLPSpanExporter):
    """Exporter of spans that records whether the collector accepted the last export."""

    failed = False

    def export(self, spans: Sequence[ReadableSpan]) -> Any:
        result = super().export(spans)
        self.failed = result is not SpanExportResult.SUCCESS
        return result


class FrameIds(RandomIdGenerator):
    """Generator of trace ids that gives the next trace its frame's id, if known."""

    next: int | None = None

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self.next is None else self.next
