"""Kinds of defects over the API, with a real store behind it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from fakes import make_verdict
from http_side import client_of, daemon_with_store
from verdicts import Line

from edgead.images.boxes import box_density
from edgead.profiling.inspector import MAX_KINDS, OTHER_KINDS, Inspector
from edgead.types import UNKNOWN_KIND

FRONT = "/api/pipelines/front"
BY = {"by": "Anna"}


@pytest.fixture
def daemon(tmp_path):
    with daemon_with_store(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def client(daemon):
    with client_of(daemon) as client:
        yield client


@pytest.fixture
def judged(daemon):
    kinds = ["kind 1", "kind 2", "kind 1", UNKNOWN_KIND, None]
    return [daemon.judge(number, 0.9, kind) for number, kind in enumerate(kinds)]


def counts(client, **query):
    return {each["kind"]: each["count"] for each in client.get(f"{FRONT}/kinds", params=query).json()["kinds"]}


def test_kinds_are_counted_in_a_time(client, judged):
    found = client.get(f"{FRONT}/kinds").json()
    assert found["kinds"][0] == {"kind": "kind 1", "count": 2, "corrected": 0}
    assert (found["unsorted"], found["false_rejects"], found["intervals"]) == (1, 0, [])
    assert list(found["known"]) == ["kind 1", "kind 2", UNKNOWN_KIND] and found["names"] == {}
    length = datetime.fromisoformat(found["until"]) - datetime.fromisoformat(found["since"])
    assert length == timedelta(days=1)
    assert counts(client, decision="review") == counts(client, hours=1e-9) == {}
    assert counts(client, since=datetime.now(timezone.utc).isoformat()) == {}
    assert client.get("/api/pipelines/back/kinds").status_code == 404


def test_a_reject_is_said_with_how_many_of_its_kind_there_were_today(client, daemon):
    line = Line("front")
    for kind in ("kind 1", "kind 1", "kind 2", UNKNOWN_KIND):
        frame, verdict = line.part(0.9)
        assert daemon.store.add(frame, replace(verdict, kind=kind))
    daemon.store.kinds.rename("front", "kind 1", "deep scratch", by="Anna")
    said = [client.get(f"/api/verdicts/{row['id']}").json()["words"] for row in daemon.store.verdicts()]
    unknown = "Reject: unknown kind, 40 x 20 px; score 0.9 (limit 0.5); 4 rejects today."
    scratch = "Reject: deep scratch, 40 x 20 px; score 0.9 (limit 0.5); 2 such today."
    assert said == [unknown, scratch.replace("deep scratch", "kind 2").replace("2 such", "1 such"), scratch, scratch]


def test_intervals_divide_the_time_from_its_begin_on(client, judged):
    since = datetime.now(timezone.utc) - timedelta(hours=20)
    query = {"since": since.isoformat(), "interval_hours": 8}
    intervals = client.get(f"{FRONT}/kinds", params=query).json()["intervals"]
    assert [datetime.fromisoformat(each["begin"]) for each in intervals] == [
        since + timedelta(hours=hours) for hours in (0, 8, 16)
    ]
    assert [each["counts"] for each in intervals] == [{}, {}, {"kind 1": 2, "kind 2": 1, UNKNOWN_KIND: 1}]
    answer = client.get(f"{FRONT}/kinds", params={"hours": 1000, "interval_hours": 1})
    assert answer.status_code == 409 and "at most 100 are counted" in answer.json()["detail"]


def test_a_time_at_the_end_of_all_times_is_no_fault(client, judged):
    for since in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "1969-01-01T00:00:00Z"):
        expected = 200 if since.startswith("9") else 409  # as many intervals since 1970
        answer = client.get(f"{FRONT}/kinds", params={"since": since, "interval_hours": 168})
        assert answer.status_code == expected, since
        assert client.get(f"{FRONT}/positions", params={"since": since}).status_code == 200
    assert client.get(f"{FRONT}/kinds", params={"hours": 1_000_000}).status_code == 200


def test_what_people_call_kinds_reaches_counts_and_lists(client, judged):
    for way, change in {
        "rename": {"kind": "kind 1", "name": "scratch"},
        "merge": {"kind": "kind 2", "into": "scratch"},
        "split": {"kind": "scratch", "judged": "kind 2", "name": "hole"},
    }.items():
        assert client.post(f"{FRONT}/kinds/{way}", json={**change, **BY}).status_code == 200, way
    answer = client.post(f"/api/verdicts/{judged[3]}/kind", json={"kind": " dent ", "pipeline": "front", **BY})
    assert answer.json() == {"done": "it is dent now"}
    assert counts(client) == {"scratch": 2, "dent": 1, "hole": 1}
    listed = client.get("/api/verdicts", params={"kind": "scratch", "pipeline": "front"}).json()["verdicts"]
    assert [verdict["id"] for verdict in listed] == [judged[2], judged[0]]
    assert (listed[0]["kind"], listed[0]["shown_kind"], listed[0]["kind_p_value"]) == ("kind 1", "scratch", 0.25)
    assert client.get(f"{FRONT}/kinds").json()["names"] == {"kind 1": "scratch", "kind 2": "hole"}
    detail = client.get(f"/api/verdicts/{judged[3]}").json()
    assert (detail["kind"], detail["shown_kind"]) == (UNKNOWN_KIND, "dent")
    assert detail["kind_correction"]["by"] == "Anna (127.0.0.1)"
    actions = [change["action"] for change in client.get("/api/audit").json()]
    assert actions == ["correct_kind", "split_kind", "merge_kinds", "rename_kind"]


REFUSED = [
    (f"{FRONT}/kinds/rename", {"kind": "kind 1", "name": "kind 2"}, 409),
    (f"{FRONT}/kinds/rename", {"kind": "dent", "name": "x"}, 409),
    (f"{FRONT}/kinds/rename", {"kind": "kind 1", "name": " "}, 422),
    (f"{FRONT}/kinds/rename", {"kind": "kind 1", "name": "a\nb"}, 422),
    (f"{FRONT}/kinds/merge", {"kind": UNKNOWN_KIND, "into": "kind 1"}, 409),
    (f"{FRONT}/kinds/split", {"kind": "kind 1", "judged": "kind 2"}, 409),
    ("/api/pipelines/back/kinds/rename", {"kind": "kind 1", "name": "x"}, 404),
    ("/api/verdicts/ffff/kind", {"kind": "dent"}, 404),
]


def test_what_cannot_be_is_refused(client, judged):
    for path, body, status in REFUSED:
        answer = client.post(path, json={**body, **BY})
        assert answer.status_code == status and answer.json()["detail"], (path, body)
        assert client.post(path, json=body).status_code in (404, 422)  # without a name for the audit
    assert client.get("/api/audit").json() == []


def test_positions_lie_where_the_boxes_are(client, judged):
    found = client.get(f"{FRONT}/positions", params={"kind": "kind 1"}).json()
    assert (found["width"], found["height"], found["verdicts"]) == (160, 120, 2)
    counted = np.array(found["counts"])  # the box is 40 x 20 pixels at 80, 40; a cell has 2.5
    assert counted.shape == (48, 64) and counted.sum() == 2 * 16 * 8
    assert (counted[16:24, 32:48] == 2).all()


def test_positions_before_the_first_verdict_reach_as_far_as_the_boxes(client, daemon, judged):
    daemon.pipelines["front"].judged = None
    found = client.get(f"{FRONT}/positions").json()
    assert (found["width"], found["height"]) == (120, 60)
    assert client.get(f"{FRONT}/positions", params={"decision": "review"}).json()["verdicts"] == 0


def test_boxes_outside_of_the_image_count_for_nothing():
    boxes = [{"x": -50, "y": 0, "width": 20, "height": 10}, {"x": 630, "y": 470, "width": 500, "height": 500}]
    counted = box_density(boxes, (640, 480))
    assert counted.shape == (48, 64) and counted.sum() == 1 and counted[47, 63] == 1
    assert box_density([], (10_000, 10)).shape == (1, 64)


def test_kinds_are_counted_by_the_part_that_judges_and_not_without_end():
    inspector = Inspector()
    frame = Line().capture()
    for number in range(25):
        inspector.finish(frame, replace(make_verdict(0.9), kind=f"kind {number}"))
    inspector.finish(frame, replace(make_verdict(0.9), kind="kind 3"))
    inspector.finish(frame, replace(make_verdict(0.45), kind="kind 3"))  # for review
    inspector.finish(frame, make_verdict(0.9))
    assert len(inspector.kinds) == MAX_KINDS + 1
    assert (inspector.kinds["kind 3"], inspector.kinds[OTHER_KINDS]) == (2, 5)
