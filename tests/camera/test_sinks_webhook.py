"""The webhook with a real HTTP server that answers as it should, late, wrongly or never."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from patience import MAX_S, usual_s, wait_until
from verdicts import Line, ids, notice

from edgead.errors import SettingsError
from edgead.serialization import verdict_record
from edgead.serialization.notice import notice_record
from edgead.sinks import SinkError, open_queued, open_sink
from edgead.sinks.webhook import WebhookOptions

pytest.importorskip("httpx", reason="WEBHOOKS NOT TESTED: pip install 'edgead[daemon]'")

SECRET = "hunter2-is-secret"


class Hook:
    """Answers with the statuses that it is given, then with 200; 0 is no answer until `released`."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.requests = []
        self.taken = []
        self.released = threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.requests.append((self.path, dict(self.headers), body, time.monotonic()))
                status = hook.statuses.pop(0) if hook.statuses else 200
                if status == 0:
                    hook.released.wait(30)
                    self.close_connection = True
                    return
                if status == 200:
                    hook.taken.append(json.loads(body))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/{SECRET}?token={SECRET}"

    def close(self):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def queued_to(url, **settings):
    section = WebhookOptions.model_validate({"kind": "webhook", "url": url, "retry_first_s": 0.05, **settings})
    queued = open_queued("hook", section)
    try:
        yield queued
    finally:
        queued.close(0.1)


def test_a_verdict_is_posted_and_signed_so_that_the_readme_can_check_it():
    frame, verdict = Line().part(0.9)
    with closing(Hook()) as hook, queued_to(hook.url, secret=SECRET) as queued:
        queued.write(frame, verdict)
        wait_until(lambda: queued.status().written == 1)
    ((path, headers, body, _),) = hook.requests
    assert json.loads(body) == json.loads(json.dumps(verdict_record(frame, verdict)))
    assert path.startswith("/hooks/") and headers["Content-Type"] == "application/json"
    assert headers["X-Edgead-Id"] == frame.id
    example = page_example("def is_from_edgead")
    assert example["is_from_edgead"](SECRET, headers, body)
    assert not example["is_from_edgead"]("another secret", headers, body)
    assert not example["is_from_edgead"](SECRET, headers, body.replace(b"reject", b"ok"))
    assert not example["is_from_edgead"](SECRET, {**headers, "X-Edgead-Timestamp": "1"}, body)


def test_a_notice_is_posted_until_it_is_taken_and_is_no_verdict():
    raised = notice()
    resolved = replace(raised, resolved_at=raised.since)
    with closing(Hook(500, 503)) as hook, queued_to(hook.url, secret=SECRET, only="reject") as queued:
        queued.notify(raised), queued.notify(resolved)
        queued.write(*Line().part(0.9))
        wait_until(lambda: len(hook.taken) == 3)
        wait_until(lambda: queued.status().written == 1)
        assert queued.status().notices_written == 2 and queued.status().problem is None
    assert hook.taken[:2] == [json.loads(json.dumps(notice_record(one))) for one in (raised, resolved)]
    assert [record.get("type") for record in hook.taken] == ["notice", "notice", None]
    keys = [headers["X-Edgead-Id"] for _, headers, _, _ in hook.requests]
    assert keys[:4] == ["n-1-raised"] * 3 + ["n-1-resolved"]
    assert page_example("def is_from_edgead")["is_from_edgead"](SECRET, *hook.requests[0][1:3])


def page_example(start):
    """Run the block of the page of sinks that holds some text, and give its names."""
    from doc_pages import blocks, written_pages

    page = "docs/how-to/plc-and-plant.md"
    (block,) = [block for block in blocks(page, written_pages()[page]) if start in block.text]
    names = {}
    exec(block.text, names)
    return names


def test_without_a_secret_nothing_is_signed():
    with closing(Hook()) as hook, queued_to(hook.url) as queued:
        queued.write(*Line().part())
        wait_until(lambda: hook.requests)
    assert not [name for name in hook.requests[0][1] if name.startswith("X-Edgead-S")]


def test_500_then_200_loses_and_doubles_nothing_and_keeps_the_order():
    parts = Line().parts(6)
    with closing(Hook(500, 503, 200, 429, 408)) as hook, queued_to(hook.url) as queued:
        for part in parts:
            queued.write(*part)
        wait_until(lambda: queued.status().written == 6)
        assert ids(hook.taken) == [frame.id for frame, _ in parts]
        assert len(hook.requests) == 10
        status = queued.status()
        assert (status.failed, status.dropped, status.problem) == (0, 0, None)
        times = [at for *_, at in hook.requests]
        assert times[1] - times[0] >= 0.05 and times[2] - times[1] >= 0.1  # the pauses grow


@pytest.mark.parametrize("status", [400, 403, 404, 302])
def test_a_refusal_is_counted_and_not_tried_again(status):
    parts = Line().parts(2)
    with closing(Hook(status)) as hook, queued_to(hook.url) as queued:
        queued.write(*parts[0])
        wait_until(lambda: queued.status().failed == 1)
        assert f"answered {status}; the verdict was not taken" in queued.status().problem
        queued.write(*parts[1])
        wait_until(lambda: queued.status().written == 1)
        assert ids(hook.taken) == [parts[1][0].id] and len(hook.requests) == 2


def test_a_receiver_that_never_answers_delays_no_verdict_and_bounds_the_queue(caplog):
    caplog.set_level(logging.DEBUG)
    parts = Line().parts(50)
    with closing(Hook(*[0] * 99)) as hook:
        with queued_to(hook.url, timeout_s=0.2, queue={"messages": 10}, secret=SECRET) as queued:
            queued.write(*parts[0])
            wait_until(lambda: hook.requests)
            assert usual_s(partial(queued.write, *part) for part in parts[1:]) < 0.01
            wait_until(lambda: queued.status().problem)
            status = queued.status()
            assert (status.waiting, status.dropped, status.written, status.failed) == (11, 39, 0, 0)
            assert status.problem.endswith(": no answer within 0.2 s")
            hook.statuses.clear()
            hook.released.set()
            wait_until(lambda: queued.status().written == 11)
            assert ids(hook.taken) == [frame.id for frame, _ in (parts[0], *parts[-10:])]
            reported = f"{caplog.text} {status} {queued!r} {queued._sink!r} {queued.uri}"
    assert SECRET not in reported


def test_a_verdict_is_given_up_in_the_end():
    with closing(Hook(*[500] * 99)) as hook, queued_to(hook.url, give_up_after_s=1) as queued:
        queued.write(*Line().part())
        wait_until(lambda: queued.status().failed == 1)
        assert 2 <= len(hook.requests) <= 6
        assert "answered 500; the verdict was not taken" in queued.status().problem


def test_a_close_waits_for_no_dead_receiver():
    with closing(Hook(*[0] * 9)) as hook:
        with queued_to(hook.url, timeout_s=2 * MAX_S) as queued:
            for part in Line().parts(3):
                queued.write(*part)
            wait_until(lambda: hook.requests)
            begin = time.monotonic()
            queued.close(0.2)
            assert time.monotonic() - begin < MAX_S
            assert queued.status().dropped == 2 and queued.status().waiting == 1
            hook.released.set()


def test_no_connection_is_reported_and_only_chosen_decisions_go():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://anna:{SECRET}@127.0.0.1:{free.getsockname()[1]}/x"
        line = Line()
        with queued_to(url, only="reject") as queued:
            queued.write(*line.part(0.1))
            queued.write(*line.part(0.9))
            wait_until(lambda: queued.status().problem)
            assert "no connection: " in queued.status().problem and queued.status().waiting == 1
            assert SECRET not in str(queued.status())


def test_a_section_shows_neither_url_nor_secret():
    section = WebhookOptions(kind="webhook", url=f"https://anna:{SECRET}@host/{SECRET}/x?token={SECRET}", secret=SECRET)
    assert SECRET not in f"{section!r} {section} {section.model_dump_json()}"


@pytest.mark.parametrize("url", ["ftp://host/x", "host/x", "http:///x", "http://[fe80::1/x", "http://h:x/"])
def test_a_url_that_is_none_is_refused_without_quoting_it(url):
    with pytest.raises(SettingsError, match="must begin with http"):
        open_queued("hook", WebhookOptions(kind="webhook", url=url))


def test_a_uri_is_enough_for_the_camera_loop(monkeypatch):
    monkeypatch.setenv("EDGEAD_WEBHOOK_SECRET", SECRET)
    frame, verdict = Line("").part(0.9)
    with closing(Hook()) as hook:
        with closing(open_sink(f"webhook:{hook.url}")) as sink:
            sink.write(frame, verdict)
        assert ids(hook.taken) == [frame.id] and "X-Edgead-Signature" in hook.requests[0][1]
        hook.statuses = [403]
        sink = open_sink(f"webhook:{hook.url}")
        sink.write(frame, verdict)
        with pytest.raises(SinkError, match="1 verdicts were not delivered: webhook:http://.*answered 403") as error:
            sink.close()
        assert SECRET not in str(error.value)
