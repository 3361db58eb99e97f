"""A URL that answers with anything but HTTP's decency: each attempt ends in time, and the next verdict arrives."""

from __future__ import annotations

from contextlib import closing

import pytest
from patience import wait_until
from verdicts import Line

pytest.importorskip("httpx", reason="WEBHOOKS NOT TESTED: pip install 'edgead[daemon]'")
from hostile.web import KINDS, TAKEN, Endpoint, drips_its_handshake, right

from edgead.sinks import open_queued
from edgead.sinks.webhook import WebhookOptions

TIMES = {"timeout_s": 1.0, "give_up_after_s": 1.6, "retry_first_s": 0.4, "retry_most_s": 0.4}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_endpoint_that_is_not_decent(kind, caplog):
    line = Line()
    with closing(Endpoint(KINDS[kind])) as endpoint:
        queued = open_queued("hook", WebhookOptions.model_validate({"kind": "webhook", "url": endpoint.url, **TIMES}))
        try:
            queued.write(*line.part(0.9))
            wait_until(lambda: queued.status().waiting == 0)
            status = queued.status()
            assert (status.written, status.failed) == ((1, 0) if kind in TAKEN else (0, 1)), status.problem
            assert all(hit.startswith(b"POST /hook ") for hit in endpoint.hits) and len(endpoint.hits) <= 5
            assert "see the log" not in (status.problem or "") and not caplog.records
            endpoint.answer = right
            queued.write(*line.part(0.9))
            wait_until(lambda: queued.status().written == status.written + 1)
            assert queued.status().problem is None
        finally:
            queued.close(0.5)


def test_a_handshake_that_drips():
    with closing(Endpoint(drips_its_handshake, speaks_first=True)) as endpoint:
        url = endpoint.url.replace("http:", "https:")
        queued = open_queued("hook", WebhookOptions.model_validate({"kind": "webhook", "url": url, **TIMES}))
        try:
            queued.write(*Line().part(0.9))
            wait_until(lambda: queued.status().failed == 1)
            assert "no answer within 1 s" in queued.status().problem
        finally:
            queued.close(0.5)


@pytest.mark.parametrize("kind", ["drips_one_header", "continue_without_end", "silence"])
def test_what_waits_for_an_answer_says_so(kind, monkeypatch):
    monkeypatch.setattr("edgead.sinks.queued._SILENT_S", 0.2)
    with closing(Endpoint(KINDS[kind])) as endpoint:
        section = {"kind": "webhook", "url": endpoint.url, "timeout_s": 2, "retry_first_s": 0.1}
        queued = open_queued("hook", WebhookOptions.model_validate(section))
        try:
            queued.write(*Line().part(0.9))
            wait_until(lambda: "no answer yet, for " in (queued.status().problem or ""))
            wait_until(lambda: (queued.status().problem or "").endswith("no answer within 2 s"))
        finally:
            endpoint.answer = right
            queued.close(0.5)
