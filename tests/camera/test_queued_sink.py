"""The queue before a sink: slow, dead, refusing and heavy ones."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from patience import MAX_S, usual_s, wait_until
from verdicts import Line, notice

from edgead.sinks import BaseSink, SinkError, StopRequested, open_queued
from edgead.sinks.queued import QueuedSink
from edgead.sinks.uri import UriOptions


class Gate(BaseSink):
    """A sink that takes nothing before `opened` is set, and then raises what it is given."""

    uri = "gate:"

    def __init__(self, error=None):
        self.opened, self.entered = threading.Event(), threading.Event()
        self.error = error
        self.numbers, self.frames, self.closes = [], [], 0

    def write(self, frame, verdict):
        self.entered.set()
        assert self.opened.wait(2 * MAX_S)
        if self.error:
            raise self.error
        self.numbers.append(frame.number)
        self.frames.append((frame, verdict))

    def close(self):
        self.closes += 1


def counts(queued):
    status = queued.status()
    return status.waiting, status.written, status.dropped, status.failed


def test_a_write_never_waits_and_the_oldest_are_dropped():
    sink = Gate()
    queued = QueuedSink("gate", sink, most=5)
    parts = Line().parts(20)
    queued.write(*parts[0])
    assert sink.entered.wait(MAX_S)
    assert usual_s(partial(queued.write, *part) for part in parts[1:]) < 0.01
    assert counts(queued) == (6, 0, 14, 0)
    sink.opened.set()
    queued.close(MAX_S)
    assert sink.numbers == [0, 15, 16, 17, 18, 19] and sink.closes == 1
    assert counts(queued) == (0, 6, 14, 0)
    queued.write(*parts[0])
    assert counts(queued) == (0, 6, 15, 0)


@pytest.mark.parametrize("error", [SinkError("gate: is broken"), StopRequested()])
def test_a_sink_that_refuses_is_counted_and_goes_on(error):
    sink = Gate(error)
    sink.opened.set()
    queued = QueuedSink("gate", sink, most=5)
    line = Line()
    queued.write(*line.part())
    wait_until(lambda: counts(queued) == (0, 0, 0, 1))
    assert queued.status().problem in ("gate: is broken", "gate:: its user has closed it")
    sink.error = None
    queued.write(*line.part())
    wait_until(lambda: counts(queued) == (0, 1, 0, 1))
    assert queued.status().problem is None
    queued.close(1)


def test_a_close_leaves_a_dead_sink_behind():
    sink = Gate()
    queued = QueuedSink("gate", sink, most=5)
    for part in Line().parts(4):
        queued.write(*part)
    assert sink.entered.wait(MAX_S)
    begin = time.monotonic()
    queued.close(0.2)
    assert 0.2 <= time.monotonic() - begin < MAX_S
    assert counts(queued) == (1, 0, 3, 0)
    sink.opened.set()
    wait_until(lambda: counts(queued) == (0, 1, 3, 0))


def test_a_close_counts_the_notices_that_nobody_took():
    sink = Gate()
    queued = QueuedSink("gate", sink, most=5)
    queued.write(*Line().part())
    assert sink.entered.wait(MAX_S)
    for _ in range(3):
        queued.notify(notice())
    queued.close(0.1)
    status = queued.status()
    assert (status.notices_waiting, status.notices_written, status.notices_lost) == (0, 0, 3)
    sink.opened.set()
    wait_until(lambda: counts(queued) == (0, 1, 0, 0))


def test_images_that_wait_are_limited_by_their_size():
    sink = Gate()
    queued = QueuedSink("gate", sink, most=1000)
    frame, verdict = Line().part()
    heavy = replace(frame, image=np.zeros((4000, 6000, 3), np.uint8))  # 69 MiB
    queued.write(heavy, verdict)
    assert sink.entered.wait(MAX_S)
    for _ in range(10):
        queued.write(heavy, verdict)
    assert counts(queued) == (4, 0, 7, 0)
    sink.opened.set()
    queued.close(MAX_S)


def test_maps_and_other_planes_count_too_and_the_newest_stays_however_large(monkeypatch):
    monkeypatch.setattr("edgead.sinks.queued._MAX_BYTES", 1000)
    sink = Gate()
    queued = QueuedSink("gate", sink, most=1000)
    frame, verdict = Line().part()
    frame = replace(frame, image=np.zeros((1, 100, 3), np.uint8), others={"depth": np.zeros(50, np.uint16)})
    verdict = replace(verdict, anomaly_map=np.zeros((5, 5), np.float32))  # 500 bytes in all
    queued.write(frame, verdict)
    assert sink.entered.wait(MAX_S)
    for waiting, dropped in ((1, 0), (2, 0), (2, 1)):
        queued.write(frame, verdict)
        assert counts(queued) == (1 + waiting, 0, dropped, 0)
    queued.write(replace(frame, image=np.zeros((1, 5000, 3), np.uint8)), verdict)
    assert counts(queued) == (2, 0, 3, 0)
    sink.opened.set()
    queued.close(MAX_S)
    assert counts(queued) == (0, 2, 3, 0) and queued._bytes == 0


def test_a_sink_that_needs_no_image_holds_none():
    sink = Gate()
    sink.needs_image = False
    sink.opened.set()
    queued = QueuedSink("gate", sink, most=5)
    queued.write(*Line().part(0.9))
    queued.close(MAX_S)
    ((frame, verdict),) = sink.frames
    assert frame.image.nbytes == verdict.anomaly_map.nbytes == 0 and verdict.decision == "reject"


def test_what_nobody_foresaw_is_counted_and_logged_once_and_the_queued_sink_goes_on(caplog):
    sink = Gate(KeyError("a mistake of ours"))
    sink.opened.set()
    queued = QueuedSink("gate", sink, most=5)
    line = Line()
    for count in range(1, 4):
        queued.write(*line.part())
        wait_until(lambda count=count: counts(queued) == (0, 0, 0, count))
    assert queued.status().problem == "gate:: failed by KeyError, see the log"
    (record,) = caplog.records
    assert record.exc_info[0] is KeyError and record.sink == "gate"
    sink.error = None
    queued.write(*line.part())
    wait_until(lambda: counts(queued) == (0, 1, 0, 3))
    assert queued.status().problem is None
    queued.close(1)


def test_a_sink_that_cannot_even_be_closed_is_left_behind(caplog):
    sink = Gate()
    sink.opened.set()
    sink.close = lambda: 1 / 0
    queued = QueuedSink("gate", sink, most=5)
    queued.write(*Line().part())
    queued.close(1)
    assert counts(queued) == (0, 1, 0, 0) and not queued._thread.is_alive()
    assert "failed by ZeroDivisionError" in queued.status().problem


def test_a_required_sink_that_fails_for_longer_than_tolerated_blocks_until_it_works():
    sink = Gate(SinkError("gate: is broken"))
    sink.opened.set()
    queued = QueuedSink("gate", sink, most=5, required=True, tolerated_s=0.3)
    line = Line()
    assert not queued.status().blocks
    queued.write(*line.part())
    wait_until(lambda: counts(queued) == (0, 0, 0, 1))
    assert not queued.status().blocks
    wait_until(lambda: queued.status().blocks)
    assert 0.3 < queued.status().failing_s < MAX_S
    sink.error = None
    queued.write(*line.part())
    wait_until(lambda: counts(queued) == (0, 1, 0, 1))
    status = queued.status()
    assert (status.required, status.failing_s, status.blocks) == (True, 0, False)
    queued.close(1)


def test_a_required_sink_without_work_is_looked_after(monkeypatch):
    """A line that waits for the device to be ready gives it no verdict by which to find out."""
    monkeypatch.setattr("edgead.sinks.queued._LOOK_EVERY_S", 0.05)
    sink = Gate()
    sink.can_check, sink.check = True, lambda: raising(sink.error)
    queued = QueuedSink("gate", sink, most=5, required=True, tolerated_s=0.1)
    sink.error = SinkError("gate: is away")
    wait_until(lambda: queued.status().blocks)
    assert queued.status().problem == "gate: is away" and counts(queued) == (0, 0, 0, 0)
    sink.error = None
    wait_until(lambda: not queued.status().blocks)
    queued.close(1)


def raising(error):
    if error:
        raise error


def test_a_sink_that_says_nothing_for_long_is_reported(monkeypatch):
    monkeypatch.setattr("edgead.sinks.queued._SILENT_S", 0.1)
    sink = Gate()
    queued = QueuedSink("gate", sink, most=5, required=True, tolerated_s=0.2)
    queued.write(*Line().part())
    assert sink.entered.wait(MAX_S)
    wait_until(lambda: queued.status().problem == "gate:: no answer yet, for 0 s")
    wait_until(lambda: queued.status().blocks)
    sink.opened.set()
    wait_until(lambda: queued.status().problem is None)
    queued.close(1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_died_is_reported():
    sink = Gate(SystemExit())
    sink.opened.set()
    queued = QueuedSink("gate", sink, most=5)
    queued.write(*Line().part())
    wait_until(lambda: queued.status().problem == "its thread has died, see the log")
    queued.close(0.1)


def test_sinks_of_the_camera_loop_can_be_named(tmp_path):
    line = Line()
    sinks = [
        open_queued("lines", UriOptions(kind="uri", uri=f"jsonl:{tmp_path}/verdicts.jsonl")),
        open_queued("images", UriOptions(kind="uri", uri=f"images:{tmp_path}/rejects?only=reject")),
    ]
    for part in (line.part(0.1), line.part(0.9)):
        for queued in sinks:
            queued.write(*part)
    for queued in sinks:
        queued.close(MAX_S)
    assert len((tmp_path / "verdicts.jsonl").read_text().splitlines()) == 2
    assert [path.name for path in (tmp_path / "rejects").iterdir()] == ["000001_top_reject.jpg"]
    assert [queued.status().written for queued in sinks] == [2, 1]


def test_notices_go_first_and_push_out_no_verdict():
    class Both(Gate):
        def notify(self, notice):
            self.numbers.append(notice.text)

    sink = Both()
    queued = QueuedSink("gate", sink, most=2)
    parts = Line().parts(4)
    queued.write(*parts[0])
    assert sink.entered.wait(MAX_S)
    for part in parts[1:]:
        queued.write(*part)
    for text in ("lost", "found"):
        queued.notify(notice(text))
    assert counts(queued) == (3, 0, 1, 0) and queued.status().notices_waiting == 2
    sink.opened.set()
    queued.close(MAX_S)
    assert sink.numbers == [0, "lost", "found", 2, 3]
    assert counts(queued) == (0, 3, 1, 0)
    queued.notify(notice("too late"))
    status = queued.status()
    assert (status.notices_waiting, status.notices_written, status.notices_lost) == (0, 2, 1)


def test_a_notice_that_is_refused_is_a_problem_and_no_verdict_that_failed():
    class Refusing(Gate):
        def notify(self, notice):
            raise SinkError("gate: takes none")

    queued = QueuedSink("gate", Refusing(), most=2)
    queued.notify(notice("lost"))
    wait_until(lambda: queued.status().notices_lost == 1)
    assert queued.status().problem == "gate: takes none" and counts(queued) == (0, 0, 0, 0)
    queued.close(1)


def test_notices_for_which_nobody_comes_are_bounded():
    sink = Gate()
    queued = QueuedSink("gate", sink, most=2)
    queued.write(*Line().part())
    assert sink.entered.wait(MAX_S)
    for number in range(1200):
        queued.notify(notice(str(number)))
    assert (queued.status().notices_waiting, queued.status().notices_lost) == (1000, 200)
    sink.opened.set()
    queued.close(MAX_S)
    assert queued.status().notices_written == 1000  # a sink for verdicts alone takes them, and does nothing


def test_a_sink_whose_check_hangs_is_left_behind(monkeypatch):
    monkeypatch.setattr("edgead.sinks.queued._LOOK_EVERY_S", 0.02)
    sink, hangs = Gate(), threading.Event()

    def check():
        sink.entered.set()
        assert hangs.wait(2 * MAX_S)

    sink.can_check, sink.check = True, check
    queued = QueuedSink("gate", sink, most=5, required=True, tolerated_s=0.1)
    assert sink.entered.wait(MAX_S)
    closing = threading.Thread(target=queued.close, args=(0.1,))
    closing.start()
    closing.join(MAX_S / 2)
    assert not closing.is_alive() and sink.closes == 1
    hangs.set()


def test_what_a_sink_does_not_need_of_a_frame_does_not_wait_with_it():
    sink = Gate()
    sink.needs_image = False
    queued = QueuedSink("gate", sink, most=5)
    line = Line()
    for _ in range(2):
        frame, verdict = line.part()
        queued.write(replace(frame, others={"depth": np.zeros((100, 100), np.float32)}), verdict)
    sink.opened.set()
    wait_until(lambda: len(sink.frames) == 2)
    queued.close(1)
    assert all(frame.others == {} for frame, _ in sink.frames)


def test_all_planes_of_a_frame_count_for_what_may_wait(monkeypatch):
    monkeypatch.setattr("edgead.sinks.queued._MAX_BYTES", 1 << 20)
    sink = Gate()
    sink.needs_image = True
    queued, line = QueuedSink("gate", sink, most=50), Line()
    for _ in range(10):
        frame, verdict = line.part()
        queued.write(replace(frame, others={"depth": np.zeros((400, 400), np.float32)}), verdict)
    assert queued.status().waiting <= 3 and queued.status().dropped >= 7
    sink.opened.set()
    queued.close(1)
