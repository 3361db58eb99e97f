"""Threads of an engine, gathered and kept off the caller's core."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from edgead.detector import Detector
from edgead.process.real_time import Scheduling
from edgead.runtime.workers import Workers, start_workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows and places threads")
CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
needs_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")


class Waiting:
    """A thread that waits until it is let go, as do those that it starts."""

    def __init__(self, children: int = 0):
        self._go = threading.Event()
        self.ids: list[int] = []
        self._up = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._start(children)
        for _ in range(children + 1):
            assert self._up.acquire(timeout=30)

    def _start(self, children: int) -> None:
        thread = threading.Thread(target=self._wait, args=[children], daemon=True)
        thread.name = ""  # from 3.14 on Python gives its threads a name; an engine's keep that of their starter
        self._threads.append(thread)
        thread.start()

    def _wait(self, children: int) -> None:
        for _ in range(children):
            self._start(0)
        self.ids.append(threading.get_native_id())
        self._up.release()
        self._go.wait()

    def end(self) -> None:
        self._go.set()
        for thread in self._threads:
            thread.join()


def caller_on(core: int, workers: Workers) -> Workers:
    workers._caller_core = lambda: core
    return workers


def name() -> str:
    return Path("/proc/thread-self/comm").read_text()


def test_workers_are_the_threads_that_were_started_and_theirs():
    before, other = name(), Waiting()
    engine, workers = start_workers(lambda: Waiting(children=2))
    later = Waiting()
    assert set(workers.cores) == set(engine.ids) and len(engine.ids) == 3
    assert name() == before
    for one in (engine, other, later):
        one.end()


def test_the_name_comes_back_after_a_failure():
    before = name()
    with pytest.raises(ZeroDivisionError):
        start_workers(lambda: 1 / 0)
    assert name() == before


@needs_two_cores
def test_workers_leave_the_callers_core():
    engine, workers = start_workers(Waiting)
    for core in (CORES[0], CORES[1], CORES[0]):
        caller_on(core, workers).follow_caller()
        assert os.sched_getaffinity(engine.ids[0]) == set(CORES) - {core}
    engine.end()
    caller_on(CORES[1], workers).follow_caller()  # an ended thread is none to be placed


@needs_two_cores
def test_workers_that_have_no_other_core_stay():
    engine, workers = start_workers(Waiting)
    with Scheduling(cores=(CORES[0],)).taken():
        workers.follow_caller()
        assert os.sched_getaffinity(engine.ids[0]) == {CORES[0]}
    workers.follow_caller()
    assert len(os.sched_getaffinity(engine.ids[0])) == len(CORES) - 1
    engine.end()


def test_workers_are_as_urgent_as_their_caller(fifo_allowed):
    engine, workers = start_workers(Waiting)
    with Scheduling(priority=1).taken():
        workers.follow_caller()
        assert os.sched_getscheduler(engine.ids[0]) == os.SCHED_FIFO
    workers.follow_caller()
    assert os.sched_getscheduler(engine.ids[0]) == os.SCHED_OTHER
    engine.end()


def test_a_system_that_forbids_to_place_threads_is_no_fault(monkeypatch):
    engine, workers = start_workers(Waiting)

    def forbidden(*given):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    workers.follow_caller()
    engine.end()


def test_no_workers_no_placing():
    Workers({}).follow_caller()


@needs_two_cores
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_engines_workers_are_kept_off(trained_model, runtime, monkeypatch):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    allowed = []
    follow_caller = Workers.follow_caller

    def watched(workers: Workers) -> None:
        follow_caller(caller_on(CORES[0], workers))
        allowed.extend(os.sched_getaffinity(thread) for thread in workers.cores)

    with Detector.load(trained_model, runtime=runtime, threads=2) as detector:
        monkeypatch.setattr(Workers, "follow_caller", watched)
        detector._runtime.run(detector._runtime.input)
    assert allowed and all(cores == set(CORES) - {CORES[0]} for cores in allowed)
