"""Exporter and trace ids of the sink `otel`; imported only where OpenTelemetry is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator


class Exporter(OTLPSpanExporter):
    """Exports spans, and knows whether the last ones were taken."""

    failed = False

    def export(self, spans: Sequence[ReadableSpan]) -> Any:
        result = super().export(spans)
        self.failed = result is not SpanExportResult.SUCCESS
        return result


class FrameIds(RandomIdGenerator):
    """Gives the next trace the id of a frame, where it has one."""

    next: int | None = None

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self.next is None else self.next
