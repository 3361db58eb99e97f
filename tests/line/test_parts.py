"""Several views make one verdict of one part: which belong together, what they say, and that none is ever mixed up."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from daemons import conveyor, make_site, started
from fakes import make_verdict
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import wait_for

from edgead.errors import SettingsError
from edgead.line.daemon.parts import Matcher, PartJudge, PartView, decide
from edgead.line.evidence import EvidenceStore
from edgead.line.evidence.settings import StoreSection
from edgead.line.site.load import load_site
from edgead.line.site.parts import PartSection
from edgead.serialization import verdict_record
from edgead.sinks.contract import CHOICES
from edgead.sinks.modbus import to_registers
from edgead.types import DECISIONS, FAULT, Frame, Part

MS = 1_000_000
IMAGE = np.zeros((4, 4, 3), np.uint8)
SCORES = {"ok": 0.1, "review": 0.45, "reject": 0.9}


def view(pipeline, at_ms, *, serial="", capture=None, camera=None, decision="ok"):
    at = datetime.fromtimestamp(at_ms / 1e3, timezone.utc)
    id = capture or f"{pipeline}-{at_ms}"
    frame = Frame(IMAGE, 0, int(at_ms * MS), at, "synthetic:", id=id, part=Part(serial))
    return PartView(pipeline, camera or pipeline, frame, replace(make_verdict(SCORES[decision]), pipeline=pipeline))


def matcher(*pipelines, timeout_ms=500, apart_ms=40):
    return Matcher(pipelines or ("left", "right"), timeout_ms * MS, apart_ms * MS)


def gone(matcher, views, *, delay_ms=10):
    """What parts come of views that are given in this order, each some time after its capture."""
    now_ns, parts = 0, []
    for one in views:
        now_ns = max(now_ns, one.frame.captured_ns + delay_ms * MS)
        parts += matcher.add(one, now_ns)
    return parts + matcher.expire(now_ns + 10_000 * MS)


def captures(parts):
    return [({name: one.frame.id for name, one in part.views.items()}, bool(part.reason)) for part in parts]


def test_views_of_one_time_are_one_part_and_a_lost_one_is_a_fault_of_its_own_part_alone():
    views = [view("left", 0), view("right", 5), view("left", 200), view("left", 400), view("right", 398)]
    assert captures(gone(matcher(), views)) == [
        ({"left": "left-0", "right": "right-5"}, False),
        ({"left": "left-200"}, True),
        ({"left": "left-400", "right": "right-398"}, False),
    ]


def test_parts_leave_in_the_order_of_their_captures():
    waits = matcher()
    assert waits.add(view("left", 0), 10 * MS) == []
    assert waits.add(view("left", 200), 210 * MS) == []
    assert waits.add(view("right", 200), 215 * MS) == [] and waits.waiting == 2
    assert waits.deadline_ns == 500 * MS
    first, second = waits.expire(500 * MS)
    assert first.reason == "right: no verdict within 500 ms" and not second.reason
    assert waits.waiting == 0 and waits.deadline_ns is None


def test_a_view_that_comes_too_late_makes_no_second_part():
    waits = matcher()
    (part,) = waits.add(view("left", 0), 600 * MS)
    assert part.reason == "right: no verdict within 500 ms"
    assert waits.add(view("right", 3), 700 * MS) == [] and waits.expire(5000 * MS) == []
    assert waits.unmatched == 1


def test_a_serial_number_decides_before_the_time_and_may_come_of_one_view_alone():
    views = [view("left", 0, serial="A"), view("right", 0, serial="B"), view("right", 300, serial="A")]
    assert captures(gone(matcher(), views)) == [
        ({"left": "left-0", "right": "right-300"}, False),
        ({"right": "right-0"}, True),
    ]
    assert captures(gone(matcher(), [view("left", 0, serial="A"), view("right", 30)])) == [
        ({"left": "left-0", "right": "right-30"}, False)
    ]


def test_a_part_that_is_inspected_again_is_another_part():
    views = [view("left", 0, serial="A"), view("left", 2000, serial="A"), view("right", 2000, serial="A")]
    assert captures(gone(matcher(), views)) == [
        ({"left": "left-0"}, True),
        ({"left": "left-2000", "right": "right-2000"}, False),
    ]


def test_regions_of_one_camera_belong_together_by_their_capture_alone():
    views = [
        view("left", 0, capture="a", camera="top"),
        view("left", 10, capture="b", camera="top"),
        view("right", 10, capture="b", camera="top"),
    ]
    assert captures(gone(matcher(), views)) == [({"left": "a"}, True), ({"left": "b", "right": "b"}, False)]


def test_captures_that_could_be_of_two_parts_are_faults_of_both():
    waits = matcher()
    waits.add(view("left", 0), 1 * MS)
    waits.add(view("left", 60), 61 * MS)
    first, second = waits.add(view("right", 30), 62 * MS)
    assert first.reason == second.reason == "captures of two parts are within 40 ms: which is of right?"
    assert waits.unmatched == 1


PARTS = st.lists(
    st.tuples(
        st.integers(100, 400),  # after the part before it: more than twice 40 ms
        st.lists(st.integers(0, 40), min_size=3, max_size=3),  # where in it each camera captures
        st.lists(st.booleans(), min_size=3, max_size=3),  # what is lost
        st.lists(st.integers(1, 900), min_size=3, max_size=3),  # how long each verdict takes
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(PARTS)
def test_whatever_is_lost_or_late_no_views_of_two_parts_are_joined(described):
    pipelines, begin_ms, arriving, of_part, whole = ("a", "b", "c"), 0, [], {}, set()
    free_ms = dict.fromkeys(pipelines, 0)
    for number, (after_ms, offsets, lost, takes_ms) in enumerate(described):
        begin_ms += after_ms
        for pipeline, offset, is_lost, took_ms in zip(pipelines, offsets, lost, takes_ms, strict=True):
            one = view(pipeline, begin_ms + offset)
            of_part[one.frame.id] = number
            if not is_lost:
                free_ms[pipeline] = max(free_ms[pipeline], begin_ms + offset + took_ms)  # in order
                arriving.append((free_ms[pipeline], one))
        whole |= set() if any(lost) else {number}
    waits, parts = matcher(*pipelines), []
    for now_ms, one in sorted(arriving, key=lambda item: item[0]):
        parts += waits.add(one, now_ms * MS)
    parts += waits.end("at the end")
    numbers = [{of_part[one.frame.id] for one in part.views.values()} for part in parts]
    assert all(len(found) == 1 for found in numbers)
    order = [found.pop() for found in numbers]
    assert len(set(order)) == len(order), "one verdict a part"
    assert {number for number, part in zip(order, parts, strict=True) if not part.reason} <= whole
    assert sum(len(part.views) for part in parts) + waits.unmatched == len(arriving)


@given(st.lists(st.sampled_from(DECISIONS), min_size=1, max_size=6), st.data())
def test_a_part_is_as_good_as_so_many_of_its_views(decisions, data):
    needed = data.draw(st.integers(1, len(decisions)))
    found = DECISIONS.index(decide(decisions, needed))
    assert sum(DECISIONS.index(one) <= found for one in decisions) >= needed
    assert sum(DECISIONS.index(one) < found for one in decisions) < needed
    assert decide(decisions, 1) == min(decisions, key=DECISIONS.index)
    assert decide(decisions, len(decisions)) == max(decisions, key=DECISIONS.index)


class ListSink:
    def __init__(self):
        self.written = []

    def write(self, frame, verdict):
        self.written.append((frame, verdict))


@pytest.fixture
def store(tmp_path):
    opened = EvidenceStore(StoreSection(folder=tmp_path, free_mib=0))
    yield opened
    opened.close()


def test_a_part_is_recorded_sent_and_counted(store):
    section = PartSection(pipelines=("left", "right"), timeout_ms=1000, apart_ms=20)
    sink, now_ms = ListSink(), time.perf_counter_ns() / MS
    parts = PartJudge("cap", section, {"left": "one", "right": "two"}, store, (sink,))
    left, right = view("left", now_ms, serial="A"), view("right", now_ms, decision="reject")
    parts.add(left.frame, replace(left.verdict, other_format="size"))
    parts.add(right.frame, right.verdict)
    lonely = view("right", now_ms + 100, serial="B")
    parts.add(lonely.frame, lonely.verdict)
    wait_for(lambda: len(sink.written) == 2, "both parts")
    parts.close("the daemon ends", 5)
    (frame, verdict), (_, fault) = sink.written
    assert (verdict.pipeline, verdict.decision, verdict.image_score) == ("cap", "reject", 0.9)
    assert frame.part.serial == "A" and frame.id.startswith("right")
    record = json.loads(json.dumps(verdict_record(frame, verdict)))
    assert [one["decision"] for one in record["views"]] == ["ok", "reject"] and record["reason"] == ""
    assert [one["score"] for one in record["views"]] == [left.verdict.score, right.verdict.score]
    assert [one.get("other_format") for one in record["views"]] == ["size", None]
    assert fault.decision == FAULT and fault.reason == "left: no verdict within 1000 ms"
    newest, oldest = store.parts.newest("cap")
    assert (newest["decision"], newest["serial"], newest["reason"]) == ("fault", "B", fault.reason)
    assert oldest["views"][1]["id"] == frame.id == oldest["id"]
    assert store.parts.newest("cap", serial="A") == store.parts.newest("cap", before_id=newest["id"]) == [oldest]
    status = parts.status()
    assert status.decisions == {"ok": 0, "review": 0, "reject": 1, "fault": 1} and status.problem is None


def test_what_waits_at_the_end_is_a_fault(store):
    sink = ListSink()
    parts = PartJudge("cap", PartSection(pipelines=("left", "right")), {"left": "one", "right": "two"}, store, (sink,))
    one = view("left", time.perf_counter_ns() / MS)
    parts.add(one.frame, one.verdict)
    parts.add(one.frame, replace(one.verdict, pipeline="another"))
    parts.close("the daemon ends", 5)
    assert [verdict.reason for _, verdict in sink.written] == ["right: the daemon ends"]


def test_a_fault_goes_to_whoever_wants_rejects_and_has_a_number_of_its_own():
    assert all(FAULT in decisions for decisions in CHOICES.values())
    assert to_registers(1, 0.0, FAULT)[-1] == 3


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"pipelines": ["a", "b", "a"]}, "named twice"),
        ({"pipelines": ["a", "c"]}, "there is no 'c'"),
        ({"pipelines": ["a", "b"], "sinks": ["plc"]}, "there is no 'plc'"),
        ({"pipelines": ["a", "b"], "rule": "k_of_n"}, "k goes with the rule k_of_n"),
        ({"pipelines": ["a", "b"], "rule": "k_of_n", "k": 3}, "3 of 2 views"),
        ({"pipelines": ["a", "b"], "timeout_ms": 10}, "apart_ms is more than timeout_ms"),
    ],
)
def test_a_site_with_a_wrong_part_is_refused(part, reason, tmp_path):
    site = make_site(tmp_path, parts={"cap": part})
    site["pipelines"]["b"] = dict(site["pipelines"]["a"])
    (tmp_path / "site.yaml").write_text(json.dumps(site))
    with pytest.raises(SettingsError, match=reason):
        load_site(tmp_path / "site.yaml")


def test_a_part_has_no_pipelines_name(tmp_path):
    site = make_site(tmp_path, parts={"a": {"pipelines": ["a", "b"]}})
    site["pipelines"]["b"] = dict(site["pipelines"]["a"])
    (tmp_path / "site.yaml").write_text(json.dumps(site))
    with pytest.raises(SettingsError, match="a pipeline has that name"):
        load_site(tmp_path / "site.yaml")


@pytest.mark.slow
def test_two_regions_of_one_camera_make_one_verdict_of_each_capture(trained_model, tmp_path):
    sinks = {"lines": {"kind": "uri", "uri": f"jsonl:{tmp_path}/parts.jsonl"}}
    site = make_site(trained_model, cameras={"conveyor": conveyor(8)}, sinks=sinks)
    site["pipelines"]["b"] = dict(site["pipelines"]["a"])
    site["parts"] = {"cap": {"pipelines": ["a", "b"], "timeout_ms": 5000, "sinks": ["lines"]}}
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running", "a")
        daemon.wait_state("running", "b")
        wait_for(lambda: daemon.api.get("/api/parts").json()[0]["decisions"]["ok"] > 4, "parts")
        (answered,) = daemon.api.get("/api/parts/cap/verdicts", params={"limit": 1}).json()["verdicts"]
        assert 'edgead_part_verdicts_total{decision="ok",part="cap"}' in daemon.api.get("/metrics").text
        daemon.stop()
    assert len({one["id"] for one in answered["views"]}) == 1
    parts = [json.loads(line) for line in (tmp_path / "parts.jsonl").read_text().splitlines()]
    whole = [part for part in parts if part["decision"] != FAULT]
    assert len(whole) > 4 and all(len({one["id"] for one in part["views"]}) == 1 for part in whole)
    of_both = {record["id"] for record in daemon.records() if record["pipeline"] == "a"} & {
        record["id"] for record in daemon.records() if record["pipeline"] == "b"
    }
    assert {part["id"] for part in whole} == of_both and len(whole) == len(of_both)
    assert len({part["id"] for part in parts}) == len(parts)


@pytest.mark.slow
@pytest.mark.faults
def test_of_two_cameras_one_is_lost_and_no_part_is_ok_any_more(trained_model, tmp_path):
    """The second camera ends after some parts; the first goes on."""
    cameras = {"left": conveyor(5), "right": conveyor(5, count=6, more="")}
    sinks = {"lines": {"kind": "uri", "uri": f"jsonl:{tmp_path}/parts.jsonl"}}
    site = make_site(trained_model, cameras=cameras, sinks=sinks)
    site["pipelines"] = {name: {"camera": name, "model": str(trained_model)} for name in cameras}
    site["parts"] = {"cap": {"pipelines": ["left", "right"], "timeout_ms": 1000, "apart_ms": 95, "sinks": ["lines"]}}
    with started(tmp_path, site) as daemon:
        daemon.wait_state("stopped", "right")
        faults = daemon.api.get("/api/parts").json()[0]["decisions"]["fault"]
        wait_for(lambda: daemon.api.get("/api/parts").json()[0]["decisions"]["fault"] > faults + 10, "faults")
        daemon.stop()
    records = daemon.records()
    last_right = max(record["captured_at"] for record in records if record["pipeline"] == "right")
    parts = [json.loads(line) for line in (tmp_path / "parts.jsonl").read_text().splitlines()]
    after = [part for part in parts if part["captured_at"].replace("T", " ")[:23] > last_right[:23]]
    assert len(after) > 3 and all(part["decision"] == FAULT for part in after[1:])
    assert "right: no verdict within 1000 ms" in {part["reason"] for part in after}
    judged = [one["id"] for part in parts for one in part["views"]]
    assert len(judged) == len(set(judged)), "no view stands in two parts"
