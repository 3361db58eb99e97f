"""Parts of the daemon alone: restart budget, conditions, kept thresholds, the log, the notifier, reloads, the feed."""

from __future__ import annotations

import gc
import io
import json
import logging
import queue
import socket
import threading
import time
from collections.abc import Sequence

import pytest
from fakes import make_verdict
from pydantic import ValidationError

from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.line.daemon.active_model import ActiveModel
from edgead.line.daemon.broadcast import VerdictFeed
from edgead.line.daemon.logs import JsonFormatter
from edgead.line.daemon.pipeline_state import PipelineState
from edgead.line.daemon.reload import Difference, site_diff
from edgead.line.daemon.service_manager import Notifier
from edgead.line.daemon.supervisor import RestartBudget, Supervisor
from edgead.line.daemon.thresholds import KeptThresholds, ThresholdRecord, doubts_of
from edgead.line.site.schema import LimitsSection, Site
from edgead.profiling.latency import LatencyRecorder
from edgead.sources import SourceError, open_source
from edgead.types import StageTimes


def limits(most, within_s):
    return LimitsSection(restarts=most, restarts_within_s=within_s)


def test_a_restart_budget_slides():
    budget = RestartBudget(limits(2, 1.0))
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    time.sleep(1.05)
    assert budget.spend()
    assert not RestartBudget(limits(0, 60)).spend()


def test_a_supervisor_restarts_what_fails_until_the_budget_is_used_up_and_can_be_started_again():
    runs, reported = [], []

    def work(stop):
        runs.append(threading.current_thread().name)
        raise RuntimeError(f"run {len(runs)}")

    supervisor = Supervisor(
        "line", work, lambda error, again: reported.append((str(error), again)), budget=RestartBudget(limits(1, 60))
    )
    supervisor.start()
    assert supervisor.join(30)
    assert reported == [("run 1", True), ("run 2", False)] and supervisor.restarts == 1
    supervisor.start()
    assert supervisor.join(30) and len(runs) == 3
    supervisor.stop()
    supervisor.start()
    assert len(runs) == 3 and set(runs) == {"line"}


def test_a_thread_that_is_being_started_is_not_lost(monkeypatch):
    """The watch looks for lost threads at any moment, also between the forgotten end and the new thread."""
    going_on, reported = threading.Event(), []

    def work(stop):
        if not going_on.is_set():
            raise RuntimeError("the engine broke")
        stop.wait()

    supervisor = Supervisor(
        "line", work, lambda error, again: reported.append(str(error)), budget=RestartBudget(limits(0, 60))
    )
    supervisor.start()
    assert supervisor.join(30) and reported == ["the engine broke"]
    going_on.set()
    start = threading.Thread.start

    def watched(thread):
        if thread.name == "line":
            watch = threading.Thread(target=supervisor.revive)
            watch.start()
            watch.join()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", watched)
    supervisor.start()
    assert supervisor.alive and not supervisor.used_up and reported == ["the engine broke"]
    supervisor.stop()
    assert supervisor.join(30)


def test_of_several_faults_the_one_that_stands_in_the_way_of_all_is_reported():
    state = PipelineState("line")
    assert (state.state, state.reason) == ("starting", None)
    state.running()
    since = state.since
    state.fault("camera", "lost")
    state.fault("model", "corrupted")
    assert (state.state, state.reason) == ("fault", "corrupted") and state.since >= since
    state.running()  # a frame comes in
    state.resolved("model")
    assert (state.state, state.reason) == ("fault", "lost")
    state.resolved("camera")
    assert (state.state, state.reason) == ("running", None)
    state.fault("camera", "lost")
    state.stopped("at its end")
    assert (state.state, state.reason) == ("stopped", "at its end")


def test_thresholds_are_kept_per_pipeline_and_model(tmp_path):
    file = tmp_path / "evidence" / "thresholds.json"
    given = ThresholdRecord.checked(review=0.1, reject=0.2, by="kim").now()
    KeptThresholds(file).keep("a", "model 1", given)
    KeptThresholds(file).keep("b", "model 1", given)
    kept = KeptThresholds(file)
    found = kept.find("a", "model 1")
    assert found.values() == {"review": 0.1, "reject": 0.2} and found.by == "kim" and found.at is not None
    assert kept.find("a", "model 2") is None and kept.find("c", "model 1") is None
    assert [path.name for path in file.parent.iterdir()] == ["thresholds.json"]
    for damaged in ("", "{", '{"a": {"m": {"review": 2, "reject": 1}}}', '{"a": {"m": {"review": 1}}}'):
        file.write_text(damaged)
        with pytest.raises(SettingsError, match="thresholds.json cannot be read .*repair it, or remove it"):
            kept.find("a", "model 1")
        with pytest.raises(SettingsError):
            kept.keep("a", "model 1", given)
        assert file.read_text() == damaged


@pytest.mark.parametrize(("review", "reject"), [(2, 1), (float("nan"), 1), (0, float("inf"))])
def test_what_are_no_thresholds_is_refused(trained_model, review, reject):
    with pytest.raises(SettingsError, match="thresholds"):
        ThresholdRecord.checked(review=review, reject=reject, by="kim")
    with Detector.load(trained_model) as detector, pytest.raises(SettingsError, match="thresholds: "):
        detector.set_thresholds(review=review, reject=reject)


def test_a_limit_of_the_page_is_doubted_beside_the_models_own(trained_model):
    with Detector.load(trained_model) as detector:
        limits = detector.graph.calibration
        assert limits is not None
        spread = max(limits.scores) - min(limits.scores)

        def at(reject: float, bad: Sequence[float] = ()) -> list[str]:
            return doubts_of(detector, ThresholdRecord.checked(review=min(limits.review, reject), reject=reject), bad)

        assert at(limits.reject) == at(limits.reject - spread) == []
        top = max(limits.reject, limits.scores[-1])
        for far in (4, 8):  # small steps lead no farther than one
            detector.set_thresholds(review=limits.review, reject=top + far * spread)
            assert at(top + far * spread) == []  # it is in force
            assert "the limit would rise from" in at(top + (far + 4) * spread)[0]
        detector.set_thresholds(review=limits.review, reject=limits.reject)
        higher = ThresholdRecord.checked(review=limits.review + 2, reject=limits.reject + 2)
        bad = [limits.review + 1, limits.review + 3, limits.review - 1]
        assert "1 of the 3 newest parts that were marked bad would pass" in doubts_of(detector, higher, bad)[-1]


def test_a_slot_judges_and_tests_itself_from_several_threads_at_once(trained_model, tmp_path):
    section = Site.model_validate(
        {"cameras": {"c": {"uri": "synthetic:"}}, "pipelines": {"a": {"camera": "c", "model": trained_model}}}
    ).pipelines["a"]
    slot = ActiveModel("a", section, KeptThresholds(tmp_path / "thresholds.json"), threads=1)
    with pytest.raises(SettingsError, match="no model is in service"):
        slot.self_test()
    slot.load()
    frames = list(open_source("synthetic:?count=3&seed=4"))
    expected = [slot.step(frame).image_score for frame in frames]
    results = []

    def test_and_swap():
        for _ in range(2):
            results.append(slot.self_test().passed)
            slot.swap(trained_model)

    other = threading.Thread(target=test_and_swap)
    other.start()
    while other.is_alive():
        assert [slot.step(frame).image_score for frame in frames] == expected
    other.join()
    assert results == [True, True] and slot.earlier[0]
    slot.close()
    assert slot.model == ""


def site(**changed):
    content = {
        "cameras": {"a": {"uri": "camera:0"}, "b": {"uri": "rtsp://kim:hunter2@10.0.0.7/x"}},
        "pipelines": {"a": {"camera": "a", "model": "m"}, "b": {"camera": "b", "model": "m", "sinks": ["mqtt"]}},
        "sinks": {"mqtt": {"kind": "mqtt", "host": "broker", "user": "kim", "password": "swordfish"}},
        "http": {"token": "0123456789abcdef"},
    }
    return Site.model_validate({**content, **changed})


def test_changes_of_a_site_touch_only_what_depends_on_them():
    old = site()
    same, nothing = site_diff(old, site()), Difference(frozenset(), frozenset())
    assert same.cameras == same.pipelines == same.sinks == nothing
    other_model = site(pipelines={"a": {"camera": "a", "model": "n"}, "b": {"camera": "b", "model": "m"}})
    assert site_diff(old, other_model).pipelines == nothing
    moved = site_diff(old, site(cameras={"a": {"uri": "camera:1"}, "b": {"uri": "rtsp://kim:hunter2@10.0.0.7/x"}}))
    assert moved.cameras == moved.pipelines == Difference(frozenset("a"), frozenset("a"))
    fewer = site_diff(old, site(cameras={"a": {"uri": "camera:0"}}, pipelines={"a": {"camera": "a", "model": "m"}}))
    assert fewer.cameras.stopped == fewer.pipelines.stopped == {"b"} and not fewer.pipelines.started
    assert site_diff(old, site(store={"keep_days": 1})).store


def triggered(**trigger):
    return {"a": {"camera": "a", "model": "m"}, "b": {"camera": "b", "model": "m", "trigger": trigger}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"sinks": {"mqtt": {"kind": "mqtt", "host": ""}}},
        {"sinks": {"plc": {"kind": "modbus", "host": ""}}},
        {"store": {"keep_days": 1e6}},
        {"store": {"keep_days": float("inf")}},
        *(
            {"pipelines": {"a": {"camera": "a", "model": "m", "trigger": {"kind": "part_in_view", "zone": zone}}}}
            for zone in ([200, 0, 300, 480], [0.5, 0, 0.6, 1], [-0.1, 0, 0.5, 1], [0.3, 0, 0, 1])
        ),
    ],
)
def test_what_could_only_fail_later_is_no_site(wrong):
    with pytest.raises(ValidationError):
        site(**wrong)


def test_no_secret_of_the_site_is_logged():
    stream = io.StringIO()
    formatter = JsonFormatter()
    formatter.hide(site())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise RuntimeError("rtsp://kim:hunter2@10.0.0.7/x refused swordfish")
    except RuntimeError as error:
        logger.exception("with %s", error, extra={"tried": ["0123456789abcdef", {"as": "swordfish"}], "number": 3})
    (text,) = stream.getvalue().splitlines()
    assert not any(secret in text for secret in ("hunter2", "swordfish", "0123456789abcdef"))
    line = json.loads(text)
    assert line["message"] == "with *** refused ***" and line["number"] == 3
    assert line["level"] == "error" and "RuntimeError" in line["traceback"]


def test_a_service_manager_that_does_not_listen_stops_nothing(tmp_path, caplog):
    silent = Notifier({})
    silent.ready("well")
    silent.alive()
    silent.close()
    assert silent.watchdog_s is None and not caplog.records
    gone = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"})
    gone.stopping()
    gone.close()
    assert gone.watchdog_s is None  # another process is watched
    assert "STOPPING=1" in caplog.text


def test_an_abstract_socket_is_spoken_to():
    name = f"edgead-test-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(30)
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name, "WATCHDOG_USEC": "2000000"})
        notifier.ready("3 pipelines")
        assert manager.recv(200) == b"READY=1\nSTATUS=3 pipelines" and notifier.watchdog_s == 2
        notifier.close()


def test_who_does_not_keep_up_with_the_feed_misses_the_oldest():
    feed = VerdictFeed(most=3)
    slow, forgotten = feed.subscribe(), feed.subscribe()
    frame = next(iter(open_source("synthetic:?count=1")))
    for score in range(5):
        feed.publish(frame, make_verdict(float(score)))
    assert [slow.get(timeout=30)[1].image_score for _ in range(3)] == [2, 3, 4] and slow.dropped == 2
    with pytest.raises(queue.Empty):
        slow.get(timeout=0.01)
    del forgotten
    gc.collect()
    feed.unsubscribe(slow)
    feed.offer((frame, make_verdict(0.5)))
    assert slow.empty()


def test_a_recorder_is_read_while_it_is_written():
    recorder = LatencyRecorder(window=500)
    stop = threading.Event()

    def add():
        while not stop.is_set():
            recorder.add_frame(StageTimes(1.0, 2.0, 3.0, 4.0, age_ms=0.5), total_ms=12.0, finished_ns=1)

    writer = threading.Thread(target=add)
    writer.start()
    try:
        for _ in range(200):
            assert all(latency.p50_ms > 0 for latency in recorder.summary().values())
    finally:
        stop.set()
        writer.join()


def test_a_conveyor_moves_at_its_rate_and_goes_round():
    source = open_source("synthetic:?rate=50&count=2&repeat=1")
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == 21:
            source.close()
    span_s = (frames[-1].captured_ns - frames[1].captured_ns) / 1e9
    assert len(frames) == 21 and span_s >= 18 / 50 - 0.01  # one that is late does not hold up the next
    assert (frames[0].image == frames[2].image).all() and (frames[0].image != frames[1].image).any()
    assert frames[0].image is not frames[2].image and len({frame.id for frame in frames}) == 21
    for wrong in ("rate=0", "rate=x", "repeat=perhaps"):
        with pytest.raises(SourceError, match=wrong.partition("=")[0]):
            open_source(f"synthetic:?{wrong}")
