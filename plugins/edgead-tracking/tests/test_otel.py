"""The sink `otel` with a receiver of OTLP over HTTP, which decodes what comes by OpenTelemetry's own messages."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import pytest
from daemons import make_site, started
from modbus_server import free_port
from patience import wait_until
from verdicts import Line

from edgead.process.installation import comes_with
from edgead.sinks import open_queued, read_uri
from edgead.types import PartVerdict, StageTimes
from edgead_tracking.otel import OtelOptions, OtelSink

pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="OTEL NOT TESTED: pip install 'edgead-tracking[otel]'"
)
messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

TIMES = StageTimes(preprocess_ms=2.0, infer_ms=7.5, score_ms=1.25, smooth_ms=0.5, age_ms=3.0)


class Receiver:
    """Takes spans by OTLP over HTTP; `status` is what it answers."""

    def __init__(self, port=0):
        self.spans, self.services, self.status = [], set(), 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces" and receiver.status == 200:
                    receiver.take(messages.ExportTraceServiceRequest.FromString(body))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def take(self, request):
        for resource in request.resource_spans:
            said = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.services.add(said["service.name"])
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def traces(self):
        """Spans by their names, by the id of their trace in hexadecimal digits."""
        found = {}
        for span in list(self.spans):
            found.setdefault(span.trace_id.hex(), {})[span.name] = span
        return found

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def queued_to(port, **settings):
    options = OtelOptions.model_validate({"kind": "otel", "endpoint": f"http://127.0.0.1:{port}", **settings})
    queued = open_queued("traces", options)
    try:
        yield queued
    finally:
        queued.close(0.5)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")


def judged(line, score=0.1):
    frame, verdict = line.part(score)
    return frame, replace(verdict, stage_times=TIMES)


def test_the_core_names_the_package_where_it_is_not_installed():
    assert "edgead-tracking[otel]" in comes_with("edgead.sinks", "otel")


def test_a_frame_is_a_trace_whose_spans_are_its_stages_end_to_end():
    with closing(Receiver()) as receiver:
        with queued_to(receiver.port) as queued:
            frame, verdict = judged(Line(), 0.875)
            queued.write(frame, verdict)
            wait_until(lambda: len(receiver.spans) == 7)
        (trace,) = receiver.traces().items()
    id, spans = trace
    root = spans.pop("frame")
    assert receiver.services == {"edgead"} and UUID(id) == UUID(frame.id) and not root.parent_span_id
    assert list(spans) == ["age", "preprocess", "infer", "score", "smooth", "handover"]
    assert all(span.parent_span_id == root.span_id for span in spans.values())
    took_ms = [(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6 for span in spans.values()]
    assert took_ms[:5] == [3.0, 2.0, 7.5, 1.25, 0.5] and took_ms[5] >= 0
    ends = [root.start_time_unix_nano, *(span.end_time_unix_nano for span in spans.values())]
    assert [span.start_time_unix_nano for span in spans.values()] == ends[:-1]
    assert root.end_time_unix_nano == spans["smooth"].end_time_unix_nano
    assert abs(root.start_time_unix_nano / 1e9 - frame.captured_at.timestamp()) < 1e-5
    said = {one.key: one.value for one in root.attributes}
    assert said["edgead.decision"].string_value == verdict.decision == "reject"
    assert said["edgead.pipeline"].string_value == "caps" and said["edgead.score"].double_value == 0.875


def test_one_good_frame_in_so_many_is_traced_all_others_are_and_parts_are_not():
    line = Line()
    good = [judged(line) for _ in range(20)]
    others = [judged(line, score) for score in (0.45, 0.875, 0.9)]
    frame, verdict = judged(line, 0.875)
    part = frame, PartVerdict(**{name: getattr(verdict, name) for name in type(verdict).__dataclass_fields__})
    with closing(Receiver()) as receiver:
        with queued_to(receiver.port, one_in=10) as queued:
            for one in [*good[:15], part, *others, *good[15:]]:
                queued.write(*one)
        found = {UUID(id) for id in receiver.traces()}
    assert found == {UUID(frame.id) for frame, _ in [good[0], good[10], *others]}


def test_a_collector_that_is_away_holds_up_nothing_and_is_sent_to_again_when_it_is_back():
    port, line = free_port(), Line()
    with queued_to(port) as queued:
        began_s = time.monotonic()
        for _ in range(3000):  # more than may wait
            queued.write(*judged(line))
        wait_until(lambda: queued.status().written + queued.status().dropped == 3000)
        assert time.monotonic() - began_s < 20
        wait_until(lambda: queued.status().problem is not None)
        assert queued.status().problem == f"otel:http://127.0.0.1:{port}: the collector did not take the last spans"
        with closing(Receiver(port)) as receiver:
            frame, verdict = judged(line)
            queued.write(frame, verdict)
            wait_until(lambda: frame.id.replace("-", "") in receiver.traces())
            wait_until(lambda: queued.status().problem is None)


def test_a_collector_that_is_away_does_not_hold_up_the_end():
    with queued_to(free_port()) as queued:
        queued.write(*judged(Line()))
        wait_until(lambda: queued.status().problem is not None)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 3


def test_a_frame_costs_little_and_one_that_is_left_out_next_to_nothing():
    """CPU time of the sink's thread, which waits for nobody: what else runs here does not count."""
    frames = [judged(Line()) for _ in range(500)]
    with closing(Receiver()) as receiver:
        for one_in, most_us in ((1, 1000), (1000, 50)):
            values = {"kind": "otel", "endpoint": f"http://127.0.0.1:{receiver.port}", "one_in": one_in}
            with closing(OtelSink(OtelOptions.model_validate(values))) as sink:
                began_s = time.thread_time()
                for frame, verdict in frames:
                    sink.write(frame, verdict)
                took_us = (time.thread_time() - began_s) / len(frames) * 1e6
            print(f"one_in {one_in}: {took_us:.1f} us of CPU a frame")
            assert took_us < most_us


def test_a_refusal_is_the_sink_s_problem():
    with closing(Receiver()) as receiver:
        receiver.status = 401
        with queued_to(receiver.port) as queued:
            queued.write(*judged(Line()))
            wait_until(lambda: queued.status().problem is not None)


@pytest.mark.slow
def test_a_daemon_s_traces_have_the_ids_of_its_evidence(trained_model, tmp_path):
    with closing(Receiver()) as receiver:
        site = make_site(trained_model)
        site["sinks"] = {"traces": {"kind": "otel", "endpoint": f"http://127.0.0.1:{receiver.port}"}}
        site["pipelines"]["a"]["sinks"] = ["traces"]
        with started(tmp_path, site) as daemon:
            daemon.wait_judged(12)
            daemon.stop(within_s=60)
            judged = {record["id"] for record in daemon.records()}
        assert {str(UUID(id)) for id in receiver.traces()} == judged
        assert all(len(spans) == 7 for spans in receiver.traces().values())


def test_it_is_a_sink_by_its_uri_whose_password_is_not_shown(monkeypatch):
    _, options = read_uri("otel:http://me:hunter2@10.0.0.9:4318?one_in=100")
    assert (options.one_in, options.endpoint) == (100, "http://me:hunter2@10.0.0.9:4318")
    assert "hunter2" not in repr(options.model_dump())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@10.0.0.8:4318")
    with closing(open_queued("traces", read_uri("otel:")[1])) as queued:
        assert queued.uri == "otel:http://10.0.0.8:4318"
