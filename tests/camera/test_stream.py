"""The camera loop with real sources and sinks; only the detector is a stand-in."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from functools import partial

import cv2
import pytest
from fakes import FakeDetector, mjpeg_server, numbered, write_video
from patience import MAX_S
from rich.console import Console

from edgead.errors import EdgeadError
from edgead.sinks import SinkError, StopRequested
from edgead.sources import SourceError, open_source
from edgead.stream import run


class ListSink:
    uri = "list:"

    def __init__(self, *, fails_at=None, error=None):
        self.seen = []
        self.closed = 0
        self._fails_at, self._error = fails_at, error or SinkError("list: broken")

    def write(self, frame, verdict):
        self.seen.append((frame, verdict))
        if frame.number == self._fails_at:
            raise self._error

    def close(self):
        self.closed += 1


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "line.avi", 20)


def test_every_frame_of_a_file_gets_one_verdict_in_order(video, tmp_path):
    detector, reported = FakeDetector(), []
    sinks = [f"jsonl:{tmp_path}/out.jsonl", f"images:{tmp_path}/images?only=reject", f"video:{tmp_path}/out.avi"]
    summary = run(str(video), detector, sinks, on_verdict=lambda frame, verdict: reported.append((frame, verdict)))
    assert detector.seen == list(range(20))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(20))
    assert (summary.frames, summary.captured, summary.dropped, summary.late) == (20, 20, 0, None)
    assert summary.decisions == {"ok": 20, "review": 0, "reject": 0}
    assert (summary.ended_by, summary.fault, summary.source) == ("source", None, str(video))
    assert list((tmp_path / "images").iterdir()) == []
    assert cv2.VideoCapture(str(tmp_path / "out.avi")).get(cv2.CAP_PROP_FRAME_COUNT) == 20
    assert [frame.number for frame, _ in reported] == list(range(20))


def test_stage_times_are_filled_where_they_are_known(video):
    sink, reported = ListSink(), []
    summary = run(
        str(video), FakeDetector(work_s=0.003), [sink], on_verdict=lambda _, verdict: reported.append(verdict)
    )
    for (_, seen), verdict in zip(sink.seen, reported, strict=True):
        assert seen.stage_times.age_ms >= 0 and seen.stage_times.sink_ms is None
        assert verdict.stage_times.sink_ms >= 0
        assert verdict.stage_times.age_ms == seen.stage_times.age_ms
    assert list(summary.latency) == ["age", "preprocess", "infer", "score", "smooth", "sink", "total"]
    assert {latency.n for latency in summary.latency.values()} == {20}
    assert summary.latency["total"].min_ms >= 3
    assert 0 < summary.fps < 1000 / 3
    reported = json.loads(json.dumps(summary.to_dict()))
    assert reported["frames"] == 20 and reported["latency"]["total"]["n"] == 20
    assert summary.table().row_count == 7


def test_what_run_did_not_open_stays_open(video):
    source, sink = open_source(video), ListSink()
    summary = run(source, FakeDetector(), [sink])
    assert summary.frames == 20 and sink.closed == 0
    assert source._capture.isOpened()
    source.close()


def test_what_run_opened_is_closed_also_on_an_error(video, tmp_path, monkeypatch):
    from edgead import stream

    opened = []

    def remembering(open_uri, *args, **kwargs):
        opened.append(open_uri(*args, **kwargs))
        opened[-1].close_calls = 0
        close = opened[-1].close

        def counted():
            opened[-1].close_calls += 1
            close()

        opened[-1].close = counted
        return opened[-1]

    monkeypatch.setattr(stream, "open_source", partial(remembering, stream.open_source))

    class Broken(FakeDetector):
        def predict(self, image_bgr):
            raise ZeroDivisionError("network broken")

    assert run(str(video), Broken(), []).fault == "ZeroDivisionError: network broken"
    with pytest.raises(SinkError, match="unknown sink"):
        run(str(video), FakeDetector(), ["nonsense:"])
    assert [source.close_calls for source in opened] == [1, 1]
    with pytest.raises(SourceError, match="missing.avi"):
        run(str(tmp_path / "missing.avi"), FakeDetector(), [f"jsonl:{tmp_path}/never.jsonl"])
    assert not (tmp_path / "never.jsonl").exists()


def test_a_fault_of_the_source_ends_the_stream_with_its_reason(tmp_path):
    path, sink = write_video(tmp_path / "line.avi", 100), ListSink()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    summary = run(str(path), FakeDetector(), [sink])
    assert 0 < summary.frames == len(sink.seen) < 100
    assert summary.ended_by == "fault" and "frames are missing" in summary.fault


def test_a_stream_goes_on_past_an_image_that_cannot_be_read_and_counts_it(tmp_path):
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.png"), numbered(i))
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:100])
    summary = run(str(tmp_path), FakeDetector(), [])
    assert (summary.frames, summary.captured, summary.unreadable) == (3, 4, 1)
    assert (summary.ended_by, summary.fault) == ("source", None)
    assert "4 captured, 0 dropped, 1 unreadable" in summary.table().caption
    assert run(str(tmp_path / "2.png"), FakeDetector(), []).unreadable == 1


def test_a_fault_of_a_sink_ends_the_stream_after_the_other_sinks_got_the_frame(video):
    broken, healthy = ListSink(fails_at=5), ListSink()
    summary = run(str(video), FakeDetector(), [broken, healthy])
    assert (summary.frames, summary.fault, summary.ended_by) == (6, "list: broken", "fault")
    assert len(broken.seen) == len(healthy.seen) == 6


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="NO /dev/full ON THIS SYSTEM")
def test_a_full_disk_is_a_fault_that_names_the_path(video):
    summary = run(str(video), FakeDetector(), ["jsonl:/dev/full"])
    assert summary.frames == 1 and "/dev/full: cannot be written: No space left" in summary.fault


def test_a_sink_may_ask_for_the_end(video):
    window, healthy = ListSink(fails_at=3, error=StopRequested()), ListSink()
    summary = run(str(video), FakeDetector(), [window, healthy])
    assert (summary.frames, summary.ended_by, summary.fault) == (4, "list:", None)
    assert len(healthy.seen) == 4


def test_the_stop_event_ends_it_after_the_frame_in_work(video):
    stop = threading.Event()

    def stop_at_7(frame, _verdict):
        if frame.number == 7:
            stop.set()

    summary = run(str(video), FakeDetector(), [], on_verdict=stop_at_7, stop=stop)
    assert (summary.frames, summary.ended_by, summary.fault) == (8, "stop", None)
    summary = run(str(video), FakeDetector(), [], stop=stop)
    assert (summary.frames, summary.ended_by) == (0, "stop")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_the_handlers_are_restored(tmp_path, number):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    released = threading.Event()
    with mjpeg_server(5, then=partial(released.wait, 2 * MAX_S)) as camera:
        # The camera stalls after 5 frames, so the signal comes while the loop waits.
        timer = threading.Timer(0.6, os.kill, (os.getpid(), number))

        def begin(frame, _verdict):
            if not timer.ident:
                timer.start()

        summary = run(camera.url, FakeDetector(), [f"jsonl:{tmp_path}/out.jsonl"], on_verdict=begin)
        released.set()
    assert (summary.ended_by, summary.fault) == (signal.Signals(number).name, None)
    assert summary.frames >= 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_it_runs_in_a_thread_that_hears_no_signals(video):
    summaries = []
    thread = threading.Thread(target=lambda: summaries.append(run(str(video), FakeDetector(), [])))
    thread.start()
    thread.join()
    assert summaries[0].frames == 20


def test_a_slow_detector_on_a_live_camera_sees_the_newest_frame_and_counts_the_others():
    detector = FakeDetector(work_s=0.08)
    with mjpeg_server(60, fps=100) as camera:
        summary = run(camera.url, detector, [])
    assert summary.captured == 60
    assert summary.frames + summary.dropped == 60 and summary.dropped > 20
    assert detector.seen == sorted(set(detector.seen)) and detector.seen[-1] == 59
    assert summary.ended_by == "fault" and "the stream ended or the connection was lost" in summary.fault
    # In a queue, a frame would wait for the work on all those before it.
    assert summary.latency["age"].p50_ms < 500


@pytest.mark.parametrize("error", [ValueError("features has NaN"), EdgeadError("smaller than the region")])
def test_an_error_of_the_detector_is_a_fault_that_names_the_frame(video, tmp_path, error):
    class Failing(FakeDetector):
        def predict(self, image_bgr):
            if len(self.seen) == 3:
                raise error
            return super().predict(image_bgr)

    sink = ListSink()
    summary = run(str(video), Failing(), [sink])
    assert (summary.frames, len(sink.seen), summary.ended_by) == (3, 3, "fault")
    assert summary.fault == f"frame 3: {error}"
    for i in range(5):
        (tmp_path / "parts").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "parts" / f"part{i}.png"), numbered(i))
    assert run(str(tmp_path / "parts"), Failing(), []).fault == f"frame 3 part3.png: {error}"


def test_late_frames_are_reported_where_a_limit_was_set(video):
    def shown(summary):
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(summary.table())
        return console.export_text()

    summary = run(str(video), FakeDetector(), [], late_after_ms=0.0)
    assert summary.late == 20 and "20 late" in shown(summary)
    summary = run(str(video), FakeDetector(), [])
    assert summary.late is None and " late" not in shown(summary)


def test_a_sink_that_cannot_finish_is_a_fault(video, tmp_path, monkeypatch):
    from edgead.sinks.video import VideoSink

    monkeypatch.setattr(VideoSink, "_count_frames", lambda self: 3)
    summary = run(str(video), FakeDetector(), [f"video:{tmp_path}/out.avi"])
    assert summary.frames == 20 and "20 frames were written and 3 can be read" in summary.fault
    assert sorted(path.name for path in tmp_path.iterdir()) == ["line.avi"]


def test_whatever_fails_ends_the_stream_with_its_summary_and_all_is_closed(video, tmp_path, monkeypatch, caplog):
    class Broken(FakeDetector):
        def predict(self, image_bgr):
            if len(self.seen) == 3:
                raise RuntimeError("the engine broke")
            return super().predict(image_bgr)

    summary = run(str(video), Broken(), [ListSink()])
    assert (summary.frames, summary.ended_by) == (3, "fault") and summary.fault == "RuntimeError: the engine broke"
    healthy = ListSink()
    summary = run(str(video), FakeDetector(), [ListSink(fails_at=2, error=OSError(5, "Input/output error")), healthy])
    assert (summary.frames, summary.ended_by) == (3, "fault") and "Input/output error" in summary.fault
    assert len(healthy.seen) == 3 and "Traceback" in caplog.text

    opened = open_source(str(video))
    monkeypatch.setattr(opened, "close", lambda: raising(SourceError("cannot be closed")))
    sink = ListSink()
    monkeypatch.setattr("edgead.stream.open_source", lambda uri, **options: opened)
    monkeypatch.setattr("edgead.stream.open_sink", lambda uri: sink)
    summary = run("camera", FakeDetector(), ["list:"])
    assert summary.fault == "cannot be closed" and summary.frames == 20 and sink.closed == 1


def raising(error):
    raise error
