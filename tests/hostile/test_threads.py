"""Every thread of a daemon fails of what nobody foresaw: the state says so within 5 s, and the inspection comes back.

The daemon runs in this process, with a model that is none. `THREADS` must name every thread that it can start.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field

import httpx
import pytest
import uvicorn
from live_daemon import Running, Slot, Watch, running
from patience import wait_for
from started_threads import started_threads

import edgead
from edgead.line.daemon import pipeline as pipelines
from edgead.line.daemon.broadcast import VerdictFeed
from edgead.line.daemon.judge_and_deliver import Judging
from edgead.line.daemon.notices import Notices
from edgead.line.daemon.site_runtime import SiteRuntime
from edgead.line.evidence.images_within_quota import ImageKeeper
from edgead.line.evidence.rows import RowWriter
from edgead.line.evidence.upkeep import Upkeep
from edgead.line.web import events
from edgead.sinks.jsonl import JsonlSink
from edgead.sources.reopened_camera import SupervisedCamera


@dataclass(frozen=True)
class Kill:
    """How to make a thread fail, what shows it, and how it is brought about where it does not happen by itself."""

    owner: object
    method: str
    shown: object
    provoke: object = lambda daemon: None
    back: object = lambda daemon: daemon.judges()
    names: tuple[str, ...] = field(default=())


def problems(word):
    return lambda daemon, log: any(word in problem for problem in daemon.daemon.store.problems())


def logged(words):
    return lambda daemon, log: words in log.text


def in_fault(daemon, log):
    return "a: fault: " in log.text and daemon.ready() == 503


def listen(daemon):
    def one():
        try:
            daemon.event()
        except (httpx.TransportError, StopIteration):
            pass

    threading.Thread(target=one, name="listener", daemon=True).start()


def follow_another_model(daemon):
    daemon.site["pipelines"]["a"]["model"] = "another"
    daemon.write()
    daemon.reload()


def drop_the_sink(daemon):
    daemon.site["pipelines"]["a"]["sinks"] = []
    daemon.site["sinks"] = {}
    daemon.write()
    daemon.reload()


THREADS = {
    "camera": Kill(SupervisedCamera, "_deliver", in_fault),
    "pipeline": Kill(pipelines.Pipeline, "_take_one", in_fault),
    "pipeline, judging": Kill(Judging, "judge", in_fault),
    "pipeline, drift": Kill(Watch, "add", lambda daemon, log: daemon.pipeline.drift is None and "drift" in log.text),
    "pipeline, feed": Kill(VerdictFeed, "publish", in_fault),
    "sink": Kill(JsonlSink, "write", lambda daemon, log: daemon.daemon.sinks["lines"].status().problem is not None),
    "evidence rows": Kill(
        RowWriter, "_write", problems("records are not written"), back=lambda daemon: rows_are_written(daemon)
    ),
    "evidence images": Kill(ImageKeeper, "_write", problems("images are not kept")),
    "evidence upkeep": Kill(Upkeep, "remove_old", problems("retention does not run")),
    "http": Kill(
        uvicorn.Server, "on_tick", lambda daemon, log: daemon.ready() == 0, back=lambda daemon: daemon.ready() == 200
    ),
    "verdict events": Kill(
        events, "verdict_record", logged('the thread "verdict events" failed'), listen, lambda daemon: daemon.event()
    ),
    "notices": Kill(Notices, "look", logged('the thread "notices" failed')),
    "reload": Kill(SiteRuntime, "prepare", logged("not reloaded as a whole"), Running.reload),
    "model": Kill(pipelines.Pipeline, "follow", logged("a: keeps its model: the program failed"), follow_another_model),
    "closing": Kill(JsonlSink, "close", logged("failed by RuntimeError"), drop_the_sink),
    "main loop": Kill(SiteRuntime, "look_after", logged("not all parts can be looked after")),
}
# Of libraries, and those that others here fail in turn.
BESIDE = {
    "AnyIO worker thread": "answers one request of the page: what fails in it is the 500 of that request",
    "plc trigger": "catches everything: the trigger has a problem then, and its pipeline is in fault",
    "part": "lasting: it comes back by itself, and the part has its reason",
    "codes of": "lasting: what fails in it is a code that is not read",
    "end": "waits for the end of the daemon; where it is gone, a timer of the kernel does its work",
    "engine build": "of `edgead stream`, not of the daemon",
    "edgead": "of a live source in the camera loop and in a reader process, not of the daemon",
    "mqtt close": "leaves a broker, at the end of a sink",
    "end of the parent": "of a reader process",
    "collect": "lasting, of commissioning: it comes back by itself",
    "commission": "follows the process that learns a draft: what fails in it is that the draft was not learnt",
    "lesson": "catches everything: the lesson has failed then, and says why",
    "sort": "catches everything: the sorting of rejects has failed then, and says why",
    "follower": "lasting: a pipeline that follows a tag looks again later",
    "model pull": "catches everything, for the follower that waits for it",
    "fleet report": "lasting: it reports again",
    "?": "of the process that learns a draft: ends it with the daemon",
    "errors of": "of a program that reads a camera, in a reader process",
}


def rows_are_written(daemon):
    return daemon.judges() and not daemon.daemon.store.problems() and not daemon.daemon.store.status()["rows_waiting"]


@pytest.mark.parametrize("name", THREADS)
def test_a_thread_that_fails_is_seen_and_comes_back(name, tmp_path, monkeypatch, caplog):
    kill, killing = THREADS[name], threading.Event()
    original = getattr(kill.owner, kill.method)

    def failing(*arguments, **named):
        if killing.is_set() and kill.method == "close":
            original(*arguments, **named)  # or its file stays open
        if killing.is_set():
            raise RuntimeError("nobody foresaw it")
        return original(*arguments, **named)

    async def failing_later(*arguments, **named):
        if killing.is_set():
            raise RuntimeError("nobody foresaw it")
        return await original(*arguments, **named)

    monkeypatch.setattr(threading, "excepthook", lambda dead: None)  # pytest's own takes it for a failure of the test
    monkeypatch.setattr("edgead.line.evidence.upkeep._RETENTION_EVERY_S", 0.5)
    monkeypatch.setattr(kill.owner, kill.method, failing_later if name == "http" else failing)
    with running(tmp_path, monkeypatch) as daemon:
        killing.set()
        kill.provoke(daemon)
        wait_for(lambda: kill.shown(daemon, caplog), f"{name} is seen")
        killing.clear()
        wait_for(lambda: kill.back(daemon), f"{name} is back")
        wait_for(daemon.judges, "verdicts")


def test_the_daemon_starts_no_thread_that_is_not_in_the_list(tmp_path, monkeypatch):
    before = set(threading.enumerate())
    with running(tmp_path, monkeypatch) as daemon:
        listen(daemon)
        daemon.reload()
        time.sleep(0.5)
        names = {thread.name for thread in set(threading.enumerate()) - before} - {"main loop", "listener"}
    known = [name.partition(",")[0] for name in (*THREADS, *BESIDE)]
    ours = {name for name in names if not re.match(r"Thread-\d+ \((serve_forever|process_request_thread)\)", name)}
    assert {name for name in ours if not name.startswith(tuple(known))} == set()
    assert len(ours) >= 8


def test_the_source_starts_no_thread_that_is_not_in_the_list():
    known = {name.partition(",")[0] for name in (*THREADS, *BESIDE)}
    unknown = {(file, name) for file, name in started_threads(edgead) if name not in known}
    # Its name is that of the work.
    assert unknown == {("supervisor.py", "self._name")}


def test_a_pipeline_whose_thread_is_gone_is_started_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(threading, "excepthook", lambda dead: None)
    killing, take = threading.Event(), pipelines.Pipeline._take_one

    def gone(*arguments):
        if killing.is_set():
            raise SystemExit
        return take(*arguments)

    monkeypatch.setattr(pipelines.Pipeline, "_take_one", gone)
    with running(tmp_path, monkeypatch) as daemon:
        killing.set()
        wait_for(lambda: in_fault(daemon, caplog), "the fault")
        killing.clear()
        wait_for(daemon.judges, "verdicts")


def test_what_hangs_is_a_fault_and_no_sign_of_life(tmp_path, monkeypatch):
    hanging, step = threading.Event(), Slot.step

    def slow(slot, frame):
        while hanging.is_set():
            time.sleep(0.05)
        return step(slot, frame)

    monkeypatch.setattr(Slot, "step", slow)
    monkeypatch.setattr(pipelines, "_SILENT_S", 1.0)
    monkeypatch.setattr("edgead.line.daemon.run._HUNG_S", 1.5)
    alive = []
    with running(tmp_path, monkeypatch) as daemon:
        monkeypatch.setattr(daemon.daemon._notifier, "alive", lambda: alive.append(time.monotonic()))
        hanging.set()
        wait_for(lambda: "hangs" in (daemon.pipeline.reason or ""), "the fault")
        assert daemon.ready() == 503
        wait_for(lambda: alive and time.monotonic() - alive[-1] > 1.5, "no sign of life")
        hanging.clear()
        wait_for(daemon.judges, "verdicts")
        wait_for(lambda: time.monotonic() - alive[-1] < 1, "signs of life")


@pytest.mark.slow
def test_records_stay_whole_through_all_this(tmp_path, monkeypatch):
    killing, write = threading.Event(), RowWriter._write

    def failing(*arguments):
        if killing.is_set():
            raise RuntimeError("nobody foresaw it")
        write(*arguments)

    monkeypatch.setattr(RowWriter, "_write", failing)
    with running(tmp_path, monkeypatch) as daemon:
        for _ in range(2):
            killing.set()
            time.sleep(0.7)
            killing.clear()
            wait_for(lambda: rows_are_written(daemon), "rows")
    status = daemon.daemon.store.status()
    assert status["rows_lost"] == 0 and status["rows_written"] == daemon.pipeline.judged
    lines = [json.loads(line)["id"] for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert len(lines) == len(set(lines)) == daemon.pipeline.judged
