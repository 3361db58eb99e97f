"""Alarms of verdicts, faults of parts, and the notices that are made of them: raised once, resolved once."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from verdicts import Line

from edgead.errors import EdgeadError, SettingsError
from edgead.images.likeness import Misfit, Size
from edgead.line.daemon.alarms import AlarmWatch, Finding, FrameCounts
from edgead.line.daemon.judge_and_deliver import Misfits
from edgead.line.daemon.notices import NoticeLedger, Notices
from edgead.line.daemon.pipeline_state import PipelineState
from edgead.line.drift import DriftState
from edgead.line.site.alarms import AlarmsSection
from edgead.line.site.load import load_site
from edgead.line.site.schema import Site
from edgead.serialization.notice import KINDS, notice_record

GOOD, BAD = 0.1, 0.9


def changes(watch: AlarmWatch, decisions: str) -> str:
    """Feed o(k), w (review), r(eject), f(ault); gives what each does: R raises a row, r resolves it, Y and y a yield"""
    words = {"o": "ok", "w": "review", "r": "reject", "f": "fault"}
    found = ""
    for letter in decisions:
        changed = watch.add(words[letter])
        marks = {"rejects_in_a_row": "R", "yield_below": "Y"}
        found += "".join(marks[one.key[0]] if one.finding else marks[one.key[0]].lower() for one in changed) or "."
    return found


def test_rejects_in_a_row_are_raised_and_resolved_by_as_many():
    watch = AlarmWatch("caps", AlarmsSection(rejects_in_a_row=3))
    assert changes(watch, "rroorwrr" + "rf" + "oro" + "wow" + "rrr") == "........" + "R." + "..." + ".r." + "..R"


def test_a_low_yield_does_not_flicker():
    watch = AlarmWatch("caps", AlarmsSection(yield_below=80, of=10))
    # Two of ten may be rejected: the third raises it, also before there are ten.
    assert changes(watch, "ororr") == "....Y"
    # It stays while more than one of ten is, whatever comes and goes around the limit.
    assert changes(watch, "oooooorooroo") == "............"
    assert changes(watch, "ooooooooo").count("y") == 1
    assert changes(watch, "ooroooo") == "......."


def test_the_limit_itself_is_no_alarm_and_what_was_found_is_said():
    watch = AlarmWatch("caps", AlarmsSection(yield_below=99.9, of=1000))
    assert changes(watch, "o" * 600 + "r" + "o" * 300) == "." * 901
    (change,) = watch.add("reject")
    assert change.finding == Finding(
        "yield_below", "caps", "2 of the last 902 parts were rejected: yield 99.8 %", "critical", 99.78, 99.9
    )


def test_many_rejects_in_a_row_are_an_alarm_by_default_that_asks_for_the_model():
    watch = AlarmWatch("caps", AlarmsSection())
    assert changes(watch, "r" * 19 + "o" + "r" * 19).strip(".") == ""
    (change,) = watch.add("reject")
    text = "20 parts in a row were rejected: is it the right model for this part?"
    assert change.finding == Finding("rejects_in_a_row", "caps", text, "critical", 20.0, 20.0)


def test_alarms_that_nobody_asked_for_are_never_raised():
    watch = AlarmWatch("caps", AlarmsSection(rejects_in_a_row=None))
    assert changes(watch, "r" * 500).strip(".") == "" and watch.kinds == {"not_inspected"}
    assert watch.no_part(running=True) is None


def test_no_part_counts_only_while_the_pipeline_runs():
    now_s = itertools.count(0, 10).__next__
    watch = AlarmWatch("caps", AlarmsSection(no_part_for_s=25), clock=now_s)
    assert [watch.no_part(running=running) is not None for running in (True, True, True, False, True, True, True)] == [
        *(False, False, True),
        *(False, False, False, True),
    ]
    watch.add("ok")
    assert watch.no_part(running=True) is None


class Frames:
    """A pipeline's counts, and a clock that goes on with them."""

    def __init__(self, section: AlarmsSection):
        self.now_s, self.judged, self.late, self.missed = 0.0, 0, 0, 0
        self.watch = AlarmWatch("caps", section, clock=lambda: self.now_s)
        self.watch.not_inspected(FrameCounts(0, 0, 0))

    def pass_by(self, for_s: int, judged: int, *, late: int = 0, missed: int = 0) -> Finding | None:
        """Let so many frames a second pass; gives what was found at the end."""
        for _ in range(for_s):
            self.now_s += 1
            self.judged, self.late, self.missed = self.judged + judged, self.late + late, self.missed + missed
            found = self.watch.not_inspected(FrameCounts(self.judged, self.late, self.missed))
        return found


def test_frames_without_a_verdict_in_time_are_an_alarm_by_default():
    line = Frames(AlarmsSection())
    assert line.pass_by(30, 10) is None
    found = line.pass_by(20, 9, missed=1)
    text = (
        "20 of the last minute's 500 frames had no verdict in time (20 were not judged, 0 late): other work on "
        "this machine, or too slow a model?"
    )
    assert found == Finding("not_inspected", "caps", text, "warning", 4.0, 1.0)
    found = line.pass_by(40, 8, late=2, missed=2)
    assert found is not None and (found.severity, found.value) == ("critical", round(100 * 180 / 600, 2))
    # It lasts until at most half as many as may be had none: the minute of those is over.
    assert line.pass_by(59, 10) is not None and line.pass_by(1, 10) is None


@pytest.mark.parametrize("above", [1.0, 20.0, None])
def test_the_share_itself_is_no_alarm(above):
    line = Frames(AlarmsSection(not_inspected_above=above))
    found = line.pass_by(60, 79, late=1, missed=21)  # 22 of 100
    assert (found is not None) is (above is not None)
    line = Frames(AlarmsSection(not_inspected_above=above))
    assert line.pass_by(60, 99, missed=1) is None


def test_few_frames_and_the_first_seconds_are_no_alarm_and_a_pipeline_that_stands_has_none():
    line = Frames(AlarmsSection())
    assert line.pass_by(9, 1, missed=1) is None and not line.watch.knows_frames
    assert line.pass_by(1, 1, missed=1) is not None and line.watch.knows_frames
    assert line.watch.not_inspected(None) is None and not line.watch.knows_frames
    assert line.pass_by(10, 1) is None and not line.watch.knows_frames  # its minute begins with it
    line.judged = line.missed = 0  # it was made again
    assert line.pass_by(11, 2) is None and line.watch.knows_frames
    line.pass_by(1, 0, missed=2)
    assert line.pass_by(59, 0) is None  # two of 24 frames: what a disk costs once
    assert line.pass_by(1, 0, missed=1) is None  # those two were over a minute ago


def test_a_verdict_costs_next_to_nothing():
    watch = AlarmWatch("caps", AlarmsSection(rejects_in_a_row=5, yield_below=95, of=1000, no_part_for_s=60))
    durations = []
    for number in range(5000):
        begin_s = time.thread_time()
        watch.add("reject" if number % 7 == 0 else "ok")
        durations.append(time.thread_time() - begin_s)
    assert sorted(durations)[len(durations) // 2] < 20e-6


class Plant:
    """Parts of a site that say what a test wants, and a clock that stands still until it is set."""

    def __init__(self, folder: Path, **pipeline):
        self.folder, self.now_s, self.sent = folder, 0.0, []
        camera = {"cameras": {"top": {"uri": "synthetic:"}}}
        alarms = {"rejects_in_a_row": 3, "no_part_for_s": 100}
        caps = {"camera": "top", "model": "model", "alarms": alarms, **pipeline}
        self.site = Site.model_validate({**camera, "pipelines": {"caps": caps}, "notices": {"settle_s": 3}})
        self.camera = dict(name="top", state="streaming", reason=None, health=())
        self.sink = dict(name="plc", problem=None, required=True)
        self.cameras = {"top": SimpleNamespace(status=lambda: SimpleNamespace(**self.camera))}
        self.caps = SimpleNamespace(
            name="caps",
            state="running",
            faults={},
            drift=None,
            section=self.site.pipelines["caps"],
            frame_counts=FrameCounts(0, 0, 0),
            misfits=Misfits(),
        )
        self.pipelines = {"caps": self.caps}
        self.sinks = {"plc": SimpleNamespace(status=lambda: SimpleNamespace(**self.sink))}
        self.problems, self.audited, self.refuses = (), [], False
        self.refused = self.refused_site = ""
        self.store = SimpleNamespace(problems=lambda: self.problems, add_audit=self.add_audit)
        self.line = Line()
        self.begin()

    def begin(self) -> None:
        """Begin as after a start of the daemon."""
        self.notices = Notices(self.folder / "notices.json", self.sent.append, clock=lambda: self.now_s)
        self.notices._parts = self
        self.notices.follow(self.site, {})

    def add_audit(self, **change) -> None:
        if self.refuses:
            raise EdgeadError("the disk is full")
        self.audited.append(change)

    def judge(self, *scores: float) -> None:
        for score in scores:
            self.notices.add(*self.line.part(score))

    def after(self, seconds: float) -> list[str]:
        """Look as often as the thread does; gives what was sent since the last time."""
        end_s = self.now_s + seconds
        while True:
            self.notices.look(self)
            if self.now_s >= end_s:
                break
            self.now_s += 0.5
        news, self.sent[:] = [f"{notice.kind} {notice.name} {notice.event}" for notice in self.sent], []
        return news


@pytest.fixture
def plant(tmp_path):
    return Plant(tmp_path)


def test_an_alarm_is_sent_at_once_and_once(plant):
    plant.judge(BAD, BAD, BAD, BAD, BAD)
    assert plant.after(0) == ["rejects_in_a_row caps raised"]
    assert plant.after(20) == []
    plant.judge(GOOD, GOOD, GOOD)
    assert plant.after(0) == ["rejects_in_a_row caps resolved"]
    # Both between two looks are both sent.
    plant.judge(*[BAD] * 3, *[GOOD] * 3)
    assert plant.after(0) == ["rejects_in_a_row caps raised", "rejects_in_a_row caps resolved"]


def test_a_low_yield_says_what_it_is_now_beside_what_raised_it(tmp_path):
    plant = Plant(tmp_path, alarms={"yield_below": 80, "of": 10})

    def said(notices):
        return [(one.kind, one.value, one.value_now) for one in notices]

    plant.judge(GOOD, BAD, GOOD, BAD, BAD)
    assert plant.after(0.5) == ["yield_below caps raised"]
    assert said(plant.notices.standing()) == [("yield_below", 40.0, 40.0)]
    plant.judge(*[GOOD] * 5)
    assert plant.after(0.5) == [] and said(plant.notices.standing()) == [("yield_below", 40.0, 70.0)]
    plant.begin()
    assert plant.after(0.5) == [] and said(plant.notices.standing()) == [("yield_below", 40.0, None)]  # no part since
    plant.judge(*[GOOD] * 11)
    assert plant.after(0.5) == ["yield_below caps resolved"]
    assert said(plant.notices.resolved(9)) == [("yield_below", 40.0, None)]


def test_a_fault_is_raised_once_it_has_settled_and_not_twice(plant):
    plant.camera.update(state="lost", reason="no route")
    plant.caps.state, plant.caps.faults = "fault", {"camera": "camera top is lost: no route"}
    assert plant.after(2.5) == []
    assert plant.after(1) == ["camera top raised"]  # and not one more of each pipeline that it feeds
    plant.camera.update(state="connecting", reason="timed out")
    assert plant.after(60) == []
    plant.camera.update(state="lost", reason="timed out")
    assert plant.after(60) == [] and plant.notices.standing()[0].text == "lost: timed out"
    plant.camera.update(state="streaming")
    plant.caps.state, plant.caps.faults = "running", {}
    assert plant.after(2.5) == []
    assert plant.after(1) == ["camera top resolved"]


def test_a_refused_site_file_stands_until_one_is_taken(plant):
    plant.refused = "a: keeps its model: /models/b: no such directory"
    assert plant.after(4) == ["site site raised"]
    assert plant.notices.standing()[0].text.startswith("some of the site file is not in force: a: keeps its model: ")
    plant.refused = "c: keeps its model: " + "it is broken, " * 1000
    assert plant.after(4) == [] and len(plant.notices.standing()[0].text) < 600
    plant.refused = ""
    assert plant.after(4) == ["site site resolved"]


HALF = Misfit("proportions", Size(120, 227), Size(227, 227))
HALF_TEXT = (
    "frames of 227 x 120 pixels where the model learnt 227 x 227: parts are cut off or squeezed; verdicts may be "
    "wrong: has the format or the region of the camera changed?"
)


def test_frames_of_another_format_are_an_alarm_at_once_until_some_fit(plant):
    misfits = plant.caps.misfits
    misfits.add("", None)
    assert plant.after(5) == []
    misfits.add("", HALF)
    assert plant.after(0) == ["frame_format caps raised"]
    (notice,) = plant.notices.standing()
    assert (notice.about, notice.severity, notice.text) == ("pipeline", "critical", HALF_TEXT)
    for _ in range(20):  # two cameras that fill one folder by turns
        misfits.add("", None)
        misfits.add("", HALF)
        assert plant.after(1) == []
    misfits.add("", None)
    misfits.add("", None)
    assert plant.after(5) == []
    misfits.add("", None)
    assert plant.after(0) == ["frame_format caps resolved"]


def test_frames_of_another_format_outlive_a_restart_until_a_frame_says_otherwise(plant, caplog):
    plant.caps.misfits.add("lid", Misfit("small", Size(48, 64), Size(480, 640)))
    with caplog.at_level("WARNING"):
        assert plant.after(0) == ["frame_format caps raised"]
    assert "caps: alarm raised: recipe lid: frames of 64 x 48 pixels where" in caplog.text
    assert plant.notices.standing()[0].severity == "warning"
    plant.caps.misfits = Misfits()
    plant.begin()
    assert plant.after(5) == []
    plant.caps.misfits.add("lid", None)
    assert plant.after(0) == ["frame_format caps resolved"]


def test_what_comes_and_goes_is_no_fault(plant):
    for problem in ["answered 500", None] * 10:
        plant.sink["problem"] = problem
        assert plant.after(2) == []


def test_every_part_of_a_site_is_looked_at(plant):
    plant.camera["health"] = ("dark", "blurred")
    plant.caps.state, plant.caps.faults = "fault", {"model": "it fails its self-test", "frame": "too small"}
    plant.caps.drift = DriftState("warning", "camera", "the camera's images look different (darker)", 90, 80, 3.0)
    plant.sink["problem"] = "no connection"
    plant.problems = ("records are not written: the disk is full; 3 wait, 0 lost",)
    plant.refused = plant.refused_site = "site.yaml:3: cameras.top.fps: unknown key\nsite.yaml:5: sinks: unknown key"
    plant.after(4)
    found = {
        notice.kind: (notice.about, notice.name, notice.severity, notice.text) for notice in plant.notices.standing()
    }
    assert found == {
        "images": ("camera", "top", "warning", "images are dark, blurred"),
        "pipeline": ("pipeline", "caps", "critical", "it fails its self-test"),
        "drift": ("pipeline", "caps", "warning", "the camera's images look different (darker)"),
        "sink": ("sink", "plc", "critical", "no connection"),
        "evidence": ("store", "evidence", "critical", plant.problems[0]),
        "site": (
            *("site", "site", "warning"),
            "the site file is not in force: site.yaml:3: cameras.top.fps: unknown key; site.yaml:5: sinks: unknown key",
        ),
    }
    for about, _, severity, _ in found.values():
        assert any(about == known and severity in severities for known, severities in KINDS.values())


def test_all_faults_of_a_pipeline_are_given_and_the_gravest_first():
    state = PipelineState("caps")
    state.fault("camera", "camera top is lost")
    state.fault("model", "it fails its self-test")
    assert list(state.faults().items()) == [("model", "it fails its self-test"), ("camera", "camera top is lost")]
    state.stopped()
    assert state.faults() == {}


def test_no_part_is_raised_by_its_own_time(plant):
    plant.judge(GOOD)
    assert plant.after(99) == []
    assert plant.after(2) == ["no_part caps raised"]
    plant.caps.state = "starting"  # nobody can say
    assert plant.after(10) == []
    plant.caps.state = "running"
    plant.judge(GOOD)
    assert plant.after(0) == ["no_part caps resolved"]


def test_frames_without_a_verdict_are_raised_and_outlive_a_restart(plant):
    plant.caps.frame_counts = FrameCounts(100, 0, 0)
    assert plant.after(5) == []
    plant.caps.frame_counts = FrameCounts(194, 4, 6)
    assert plant.after(6) == [] and plant.after(4) == ["not_inspected caps raised"]
    (notice,) = plant.notices.standing()
    assert (notice.severity, notice.value, notice.limit) == ("warning", 10.0, 1.0)
    plant.begin()
    assert plant.after(5) == [] and plant.notices.standing() == [notice]  # nobody can say yet
    assert plant.after(6) == [] and plant.after(4) == ["not_inspected caps resolved"]


def test_a_reload_keeps_what_stands_and_a_restart_too(plant):
    plant.judge(BAD, BAD, BAD)
    plant.camera.update(state="lost")
    assert plant.after(4) == ["rejects_in_a_row caps raised", "camera top raised"]
    ids = [notice.id for notice in plant.notices.standing()]
    plant.notices.follow(plant.site.model_copy(deep=True), {})
    assert plant.after(10) == []
    plant.camera.update(state="connecting")
    plant.begin()
    assert plant.after(10) == [] and [notice.id for notice in plant.notices.standing()] == ids
    plant.judge(GOOD, GOOD, GOOD)
    plant.camera.update(state="streaming")
    assert plant.after(4) == ["rejects_in_a_row caps resolved", "camera top resolved"]


def test_an_alarm_that_the_site_file_no_longer_has_is_resolved(plant):
    plant.judge(BAD, BAD, BAD)
    plant.after(0)
    other = plant.site.pipelines["caps"].model_copy(update={"alarms": AlarmsSection(rejects_in_a_row=50)})
    plant.notices.follow(plant.site.model_copy(update={"pipelines": {"caps": other}}), {})
    assert plant.after(10) == []  # it stands until as many good ones have come
    plant.notices.follow(plant.site.model_copy(update={"pipelines": {}}), {})
    assert plant.after(4) == ["rejects_in_a_row caps resolved"]


def test_who_has_seen_it_is_on_record_once(plant, caplog):
    plant.judge(BAD, BAD, BAD)
    plant.after(0)
    (notice,) = plant.notices.standing()
    assert plant.notices.acknowledge("nothing", by="Anna") is None
    seen = plant.notices.acknowledge(notice.id, by="Anna (127.0.0.1)")
    assert seen.acknowledged_by == "Anna (127.0.0.1)" and plant.notices.acknowledge(notice.id, by="Ben") == seen
    assert plant.after(0) == ["rejects_in_a_row caps acknowledged"]
    (change,) = plant.audited
    assert (change["by"], change["action"], change["pipeline"]) == ("Anna (127.0.0.1)", "acknowledge", "caps")
    plant.judge(GOOD, GOOD, GOOD)
    plant.after(0)
    assert plant.notices.resolved(5)[0].acknowledged_by == "Anna (127.0.0.1)"
    plant.judge(BAD, BAD, BAD)
    plant.after(0)
    plant.refuses = True
    assert plant.notices.acknowledge(plant.notices.standing()[0].id, by="Ben").acknowledged_by == "Ben"
    assert "is not in the audit: the disk is full" in caplog.text


def test_a_new_sink_that_retains_notices_is_given_the_newest_of_each(plant):
    given = []
    sink = SimpleNamespace(retains_notices=True, notify=lambda notice: given.append((notice.kind, notice.event)))
    plant.judge(*[BAD] * 3, *[GOOD] * 3, *[BAD] * 3, *[GOOD] * 3)
    plant.camera.update(state="lost")
    plant.after(4)
    site = plant.site.model_copy(update={"notices": plant.site.notices.model_copy(update={"sinks": ("broker",)})})
    plant.notices.follow(site, {"broker": sink})
    assert sorted(given) == [("camera", "raised"), ("rejects_in_a_row", "resolved")]
    plant.notices.follow(site, {"broker": sink})
    assert len(given) == 2
    other = SimpleNamespace(retains_notices=False, notify=sink.notify)
    plant.notices.follow(site, {"broker": other})
    assert len(given) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"id": "x"}]', b"\xff\xfe"])
def test_a_damaged_file_of_notices_is_dropped_and_written_again(tmp_path, content, caplog):
    file = tmp_path / "notices.json"
    file.write_bytes(content)
    ledger = NoticeLedger(file)
    assert ledger.standing() == [] and "dropped: it is damaged" in caplog.text
    notice = ledger.stand(Finding("sink", "plc", "no connection", "warning"))
    ledger.save()
    assert NoticeLedger(file).standing() == [notice]


def test_a_disk_that_takes_no_notices_is_logged_once(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    ledger = NoticeLedger(tmp_path / "file" / "notices.json")
    for _ in range(3):
        ledger.save()
    assert caplog.text.count("are not kept") == 1


def test_only_so_many_resolved_ones_are_kept(tmp_path):
    ledger = NoticeLedger(tmp_path / "notices.json")
    for number in range(250):
        ledger.stand(Finding("sink", "plc", f"no connection {number}", "warning"))
        ledger.resolve(("sink", "plc"))
    assert len(ledger.resolved()) == 200 and ledger.resolved(1)[0].text == "no connection 249"
    assert ledger.counts()["raised"]["sink", "warning"] == 250 and ledger.counts()["open"]["sink", "warning"] == 0


def test_the_record_is_json_and_no_verdict(plant):
    plant.judge(BAD, BAD, BAD)
    plant.notices.look(plant)
    record = json.loads(json.dumps(notice_record(plant.sent[0])))
    assert record["type"] == "notice" and record["event"] == "raised"
    assert (record["value"], record["limit"], record["resolved_at"]) == (3.0, 3.0, None)


def test_a_site_names_only_sinks_that_take_notices(tmp_path):
    def load(kind: str) -> None:
        sinks = {"broker": {"kind": "mqtt", "host": "h"}, "lines": {"kind": "uri", "uri": "jsonl:-"}}
        sinks |= {"hook": {"kind": "uri", "uri": "webhook:http://h"}}
        site = {"cameras": {"top": {"uri": "synthetic:"}}, "pipelines": {"caps": {"camera": "top", "model": "m"}}}
        (tmp_path / "site.yaml").write_text(json.dumps({**site, "sinks": sinks, "notices": {"sinks": [kind]}}))
        load_site(tmp_path / "site.yaml")

    load("broker"), load("hook")
    with pytest.raises(SettingsError, match="notices.sinks: 'lines' takes verdicts alone"):
        load("lines")
    with pytest.raises(SettingsError, match=r"notices.sinks: there is no 'brokr'.*broker"):
        load("brokr")
