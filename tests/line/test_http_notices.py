"""Notices in the API: what stands, what stood, who has seen it; as events and as metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fake_daemon import FakeDaemon
from http_side import client_of
from patience import wait_until

from edgead.serialization.notice import notice_record


@pytest.fixture
def daemon(tmp_path):
    return FakeDaemon(tmp_path)


@pytest.fixture
def client(daemon):
    with client_of(daemon) as client:
        yield client


def test_what_stands_and_what_stood_is_listed_and_can_be_acknowledged_once(client, daemon):
    assert client.get("/api/notices").json() == {"standing": [], "resolved": []}
    raised = daemon.raise_notice("rejects_in_a_row", "5 parts in a row were rejected", value=5.0, limit=5.0)
    daemon.raise_notice("camera", "lost: no route")
    listed = client.get("/api/notices").json()
    assert [one["kind"] for one in listed["standing"]] == ["camera", "rejects_in_a_row"]
    assert listed["standing"][1] == {**notice_record(raised), "since": raised.since.isoformat().replace("+00:00", "Z")}
    path = f"/api/notices/{raised.id}/acknowledge"
    seen = client.post(path, json={"by": "Anna"}).json()
    assert (seen["event"], seen["acknowledged_by"]) == ("acknowledged", "Anna (127.0.0.1)")
    assert client.post(path, json={"by": "Ben"}).json() == seen
    daemon.resolve_notice(raised)
    listed = client.get("/api/notices").json()
    assert [one["kind"] for one in listed["standing"]] == ["camera"]
    assert [(one["event"], one["acknowledged_by"]) for one in listed["resolved"]] == [("resolved", "Anna (127.0.0.1)")]
    assert client.get("/api/notices?limit=0").json()["resolved"] == []


def test_what_cannot_be_acknowledged_is_refused(client, daemon):
    raised = daemon.raise_notice("camera", "lost")
    assert client.post("/api/notices/none/acknowledge", json={"by": "Anna"}).status_code == 404
    for body in ({}, {"by": ""}, {"by": "\n"}, {"by": "x" * 65}):
        assert client.post(f"/api/notices/{raised.id}/acknowledge", json=body).status_code == 422
    assert daemon.notices.standing() == [raised]


def test_a_notice_is_an_event_among_verdicts(client, daemon):
    with client.stream("GET", "/api/events") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        wait_until(lambda: daemon.listeners)
        daemon.judge(1, 0.9)
        raised = daemon.raise_notice("drift", "the camera's images look different (darker)")
        daemon.judge(2, 0.1)
        events = [next_event(lines) for _ in range(3)]
    assert [name for name, _ in events] == ["verdict", "notice", "verdict"]
    assert events[1][1]["id"] == raised.id


def next_event(lines: Iterator[str]) -> tuple[str, dict]:
    name = next(line for line in lines if line.startswith("event: "))
    return name.removeprefix("event: "), json.loads(next(lines).removeprefix("data: "))


def test_notices_are_counted_by_kind_and_severity(client, daemon):
    raised = daemon.raise_notice("yield_below", "yield 91.0 %", value=91.0, limit=95.0)
    metrics = client.get("/metrics").text
    assert 'edgead_notices_open{kind="yield_below",severity="critical"} 1.0' in metrics
    assert 'edgead_notices_open{kind="sink",severity="warning"} 0.0' in metrics
    daemon.resolve_notice(raised)
    metrics = client.get("/metrics").text
    assert 'edgead_notices_open{kind="yield_below",severity="critical"} 0.0' in metrics
    assert 'edgead_notices_total{kind="yield_below",severity="critical"} 1.0' in metrics
