"""Sources with their real parts: videos that OpenCV wrote, folders of images, an MJPEG camera on HTTP."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from contextlib import closing
from datetime import timezone
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from certificates import write_certificates
from fakes import FOURCC, mjpeg_server, numbered, read_number, write_video
from patience import MAX_S

from edgead.images.files import write_image
from edgead.sinks import SINKS
from edgead.sources import Counters, SourceError, beside, live, open_source, without_credentials
from edgead.sources.connection import LiveAddress
from edgead.sources.live import Mailbox
from edgead.sources.video import VideoSource
from edgead.types import Frame


def frames_until_fault(source, *, wait_s=0.0):
    """Read all frames; returns what was seen and the text of the fault, if any."""
    seen = []
    try:
        for frame in source:
            seen.append((frame.number, read_number(frame.image)))
            time.sleep(wait_s)
    except SourceError as fault:
        return seen, str(fault)
    return seen, None


# Files


@pytest.mark.parametrize("suffix", FOURCC)
def test_a_video_is_read_in_order_each_frame_once(tmp_path, suffix):
    path = write_video(tmp_path / f"line{suffix}", 60)
    with closing(open_source(path)) as source:
        assert not source.live
        seen, fault = frames_until_fault(source)
    assert fault is None
    assert seen == [(i, i) for i in range(60)]
    assert source.counters == Counters(captured=60)


def test_frames_carry_their_times_and_their_source(tmp_path):
    path = write_video(tmp_path / "line.avi", 5)
    before = time.perf_counter_ns()
    frames = list(open_source(str(path)))
    assert all(isinstance(frame, Frame) and frame.image.dtype == np.uint8 for frame in frames)
    stamps = [before, *(frame.captured_ns for frame in frames), time.perf_counter_ns()]
    assert stamps == sorted(stamps)
    assert {frame.captured_at.tzinfo for frame in frames} == {timezone.utc}
    assert {(frame.source, frame.name) for frame in frames} == {(str(path), "")}


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_video_that_ends_early_is_a_fault_with_the_frame(tmp_path, suffix):
    path = write_video(tmp_path / f"line{suffix}", 100)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    seen, fault = frames_until_fault(open_source(path))
    assert 40 < len(seen) < 100
    assert seen == [(i, i) for i in range(len(seen))]
    assert f"ended after frame {len(seen) - 1}: {100 - len(seen)} of 100 frames are missing" in fault


def test_a_video_damaged_in_the_middle_is_a_fault(tmp_path):
    for suffix in (".avi", ".mkv"):
        path = write_video(tmp_path / f"line{suffix}", 400)
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 6_000] = bytes(6_000)
        path.write_bytes(data)
        seen, fault = frames_until_fault(open_source(path))
        assert len(seen) < 400 and "frames are missing or damaged" in fault
    # Matroska carries time stamps, so the place of the gap is known.
    after = int(re.search("the first after frame ([0-9]+)", fault)[1])
    assert seen[after + 1][1] > seen[after - 1][1] + 2
    assert seen[-1][1] == 399


def test_files_that_are_no_videos_are_refused_quietly(tmp_path, capfd):
    write_video(tmp_path / "whole.mp4", 30)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:2000])
    (tmp_path / "empty.avi").touch()
    (tmp_path / "notes.txt").write_text("no video\n" * 100)
    for name in ("cut.mp4", "empty.avi", "notes.txt", "missing.avi"):
        with pytest.raises(SourceError, match=name):
            list(open_source(tmp_path / name))
    assert capfd.readouterr().err == ""


def test_motion_jpeg_has_the_pixels_of_image_files(tmp_path):
    rng = np.random.default_rng(0)
    images = [cv2.GaussianBlur(rng.integers(0, 90, (64, 96, 3), np.uint8), (0, 0), 1.5) for _ in range(4)]
    writer = cv2.VideoWriter(
        str(tmp_path / "line.avi"), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64)
    )
    for image in images:
        writer.write(image)
    writer.release()
    reader = cv2.VideoCapture(str(tmp_path / "line.avi"), cv2.CAP_OPENCV_MJPEG)
    frames = [frame.image for frame in open_source(tmp_path / "line.avi")]
    assert len(frames) == len(images)
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame, reader.read()[1])
        assert abs(float(frame.mean()) - float(image.mean())) < 0.3


def test_a_damaged_frame_of_motion_jpeg_is_left_out_and_missed(tmp_path):
    path = write_video(tmp_path / "line.avi", 20)
    data = bytearray(path.read_bytes())
    eighth = [found.start() for found in re.finditer(b"\xff\xd8\xff", data)][7]
    data[eighth : eighth + 4] = bytes(4)
    path.write_bytes(data)
    seen, fault = frames_until_fault(open_source(path))
    assert [number for _, number in seen] == [*range(7), *range(8, 20)]
    assert "1 of 20 frames are missing or damaged" in fault


def test_a_closed_source_ends(tmp_path):
    path = write_video(tmp_path / "line.avi", 30)
    folder = tmp_path / "parts"
    folder.mkdir()
    for i in range(5):
        cv2.imwrite(str(folder / f"{i}.png"), numbered(i))
    for uri in (path, folder):
        source = open_source(uri)
        frames = iter(source)
        next(frames)
        source.close()
        source.close()
        assert list(frames) == []


def test_a_folder_a_glob_and_an_image_give_named_frames_in_order(tmp_path):
    for i in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"part{i}.png"), numbered(i))
    cv2.imwrite(str(tmp_path / "other.bmp"), numbered(99))
    expected = {
        str(tmp_path): ["other.bmp", "part1.png", "part2.png", "part10.png"],
        f"{tmp_path}/part*.png": ["part1.png", "part2.png", "part10.png"],
        f"{tmp_path}/part2.png": ["part2.png"],
    }
    for uri, names in expected.items():
        frames = list(open_source(uri))
        assert [frame.name for frame in frames] == names
        assert [frame.number for frame in frames] == list(range(len(names)))
        assert {frame.source for frame in frames} == {uri}
    assert read_number(frames[0].image) == 2


def test_a_name_that_is_not_utf_8_becomes_one(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), numbered(0))
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/gr\xfcn.png")
    with closing(open_source(str(tmp_path))) as source:
        assert [frame.name for frame in source] == ["gr\\udcfcn.png"]


def test_a_truncated_image_in_a_folder_is_named_counted_and_passed(tmp_path, caplog):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"part{i}.jpg"), numbered(i))
    data = (tmp_path / "part1.jpg").read_bytes()
    (tmp_path / "part1.jpg").write_bytes(data[: len(data) // 2])
    source = open_source(tmp_path)
    seen, fault = frames_until_fault(source)
    assert seen == [(0, 0), (2, 2)] and fault is None  # numbers have a gap: what comes after does not follow
    assert source.counters == Counters(captured=3, unreadable=1)
    assert "frame 1: " in caplog.text and "part1.jpg: truncated JPEG" in caplog.text
    assert frames_until_fault(source) == ([], None)  # each once


@pytest.mark.parametrize(
    "uri, what",
    [
        ("", "empty"),
        ("missing/folder", "no such file"),
        ("parts/*.png", "no image matches"),
        ("camera:999", "no camera at /dev/video999"),
        ("999", "no camera at /dev/video999"),
        ("camera:front", "give an index or a device"),
        ("gopher://user:hunter2@host/x", "unknown scheme 'gopher'"),
        ("folder:.", "unknown scheme 'folder'; .* did you mean [.][?]"),
        ("synthetic:?sed=1", "unknown option 'sed'; known are batch, count, cycle, defect_rate, fault, "),
        ("rtsp:/admin:hunter2@cam/1", "rtsp:/cam/1: the URL names no host"),
        ("rtsp//admin:hunter2@cam/1", "rtsp//cam/1: no such file"),
        ("rtsp//admin:hunter2@cam/1?x=1", "rtsp//cam/1: no such file"),
        ("admin:hunter2@cam/1", "^cam/1: no scheme; known are camera:"),
        ("synthetic:?count=-3", "count: must be at least 0"),
        ("synthetic:count=5", "options follow a [?], as in synthetic:[?]count=5"),
        ("synthetic:5?count=5", "'5' is no part of the line"),
        ("synthetic:?defect_rate=7", "defect_rate: must be at most 1"),
        ("synthetic:?batch=0", "batch: must be at least 1"),
    ],
)
def test_what_cannot_be_opened_says_why(tmp_path, monkeypatch, uri, what):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=what) as fault:
        open_source(uri)
    assert "hunter2" not in str(fault.value)


@pytest.mark.parametrize("name", ["line.avi", "parts", "parts/*.png", "parts/part?.png"])
def test_a_recording_comes_at_a_rate(tmp_path, name):
    """Each frame once, when it is due, its age counted from then."""
    write_video(tmp_path / "line.avi", 5)
    for i in range(5):
        write_image(tmp_path / "parts" / f"part{i}.png", numbered(i))
    with closing(open_source(f"{tmp_path / name}?rate=20", late_after_ms=1000)) as source:
        assert not source.live
        frames = list(source)
        assert source.counters.captured == 5
    assert [read_number(frame.image) for frame in frames] == list(range(5))
    assert np.diff([frame.captured_ns for frame in frames]).sum() >= 0.9 * 4 / 20 * 1e9
    assert {frame.source for frame in frames} == {str(tmp_path / name)}


def test_a_paced_recording_ends_when_it_is_closed(tmp_path):
    source = open_source(f"{write_video(tmp_path / 'line.avi', 5)}?rate=0.01")
    threading.Timer(0.2, source.close).start()
    begin_s = time.monotonic()
    assert len(list(source)) == 1
    assert time.monotonic() - begin_s < MAX_S


def test_options_of_a_recording_are_checked(tmp_path):
    path = write_video(tmp_path / "line.avi", 2)
    for query, what in {
        "rate=fast": "rate: must be a number",
        "rtae=4": "unknown option 'rtae'; known are rate",
    }.items():
        with pytest.raises(SourceError, match=what):
            open_source(f"{path}?{query}")
    path.rename(tmp_path / "line.avi?rate=4")  # a file's own name
    assert len(list(open_source(tmp_path / "line.avi?rate=4"))) == 2


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no images found"):
        open_source(tmp_path)


def test_the_built_in_line_gets_its_options(monkeypatch):
    asked = []

    def conveyor(seed, count, defect_rate, parts_per_batch):
        asked.append((seed, count, defect_rate, parts_per_batch))
        for number in range(count):
            yield numbered(number), np.zeros((120, 160), bool), None

    monkeypatch.setattr("edgead.synthetic.line.conveyor", conveyor)
    source = open_source("synthetic:?seed=4&count=12&defect_rate=0.25")
    assert frames_until_fault(source) == ([(i, i) for i in range(12)], None)
    list(open_source("synthetic:"))
    list(open_source("synthetic:?count=1&batch=50"))
    assert asked == [(4, 12, 0.25, None), (1, 100, 0.1, None), (1, 1, 0.1, 50)]


def test_late_frames_are_counted_and_still_delivered(tmp_path):
    path = write_video(tmp_path / "line.avi", 4)
    source = VideoSource(path, late_after_ms=0.0)
    assert len(list(source)) == 4
    assert source.counters.late == 4
    source = VideoSource(path, late_after_ms=10_000.0)
    assert len(list(source)) == 4
    assert source.counters.late == 0


def test_without_a_limit_nothing_is_said_of_late_frames(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), numbered(0))
    for uri in (write_video(tmp_path / "line.avi", 4), tmp_path / "a.png", "synthetic:?count=1"):
        source = open_source(uri)
        list(source)
        assert source.counters.late is None
        source = open_source(uri, late_after_ms=60_000)
        list(source)
        assert source.counters.late == 0


def test_a_video_frame_that_is_no_image_is_a_fault_by_number(tmp_path, monkeypatch):
    path = write_video(tmp_path / "line.avi", 4)
    source = VideoSource(path)
    frames = iter(source)
    next(frames)
    monkeypatch.setattr(VideoSource, "_read", lambda self: np.zeros((4, 4), np.float32))
    with pytest.raises(SourceError, match="line.avi: frame 1: .*float32"):
        next(frames)
    monkeypatch.undo()
    source = VideoSource(path)
    source._capture = DeadCapture(cv2.error("decoder"))
    with pytest.raises(SourceError, match="line.avi: frame 0: OpenCV failed while reading: decoder"):
        next(iter(source))


def test_the_real_line_gives_the_same_parts_for_the_same_seed():
    uri = "synthetic:?seed=4&count=3&defect_rate=0.5"
    first, second = (list(open_source(uri)) for _ in range(2))
    assert [frame.number for frame in first] == [0, 1, 2]
    assert all((a.image == b.image).all() for a, b in zip(first, second, strict=True))


# Live


def test_a_slow_consumer_always_gets_the_newest_frame():
    with mjpeg_server(100, fps=40) as camera:
        with closing(open_source(f"{camera.url}/video.mjpg", late_after_ms=60_000)) as source:
            assert source.live
            lags, numbers, dropped = [], [], []
            with pytest.raises(SourceError, match="the stream ended or the connection was lost"):
                for frame in source:
                    shown = read_number(frame.image)
                    lags.append(camera.sent - shown)
                    numbers.append(frame.number)
                    assert frame.number == shown
                    dropped.append(source.counters.dropped)
                    time.sleep(0.25)
    assert numbers[-1] == 99  # the last frame of a stream that ends is still delivered
    assert dropped == sorted(dropped) and dropped[-1] > 50
    # The first frames come while FFmpeg still examines the stream; later ones are a few intervals old.
    # A queue would be 50 frames behind at the end; a busy machine may delay single frames.
    assert sorted(lags[1:])[len(lags) // 2] <= 5 and lags[-1] <= 10
    assert source.counters == Counters(captured=100, dropped=100 - len(numbers), late=0)


def test_a_stream_that_stops_without_closing_is_a_fault_in_bounded_time():
    released = threading.Event()
    with mjpeg_server(10, then=lambda: released.wait(2 * MAX_S)) as camera:
        with closing(open_source(camera.url, read_timeout_s=2)) as source:
            begin = time.monotonic()
            seen, fault = frames_until_fault(source)
            assert time.monotonic() - begin < MAX_S
            reported = re.search(r"no data for (\d+\.\d) s, after 10 frames", fault)
            assert seen[-1] == (9, 9) and reported and 1.9 <= float(reported[1]) < MAX_S
        released.set()


def test_a_reader_that_hangs_is_a_fault_and_does_not_hang_the_close(monkeypatch):
    released = threading.Event()

    class Hanging:
        def get(self, what):
            return 0.0  # as of a capture that does not know

        def read(self):
            released.wait(2 * MAX_S)
            return False, None

        def release(self):
            pass

    monkeypatch.setattr(live, "_GRACE_S", 0.2)
    monkeypatch.setattr(live, "_JOIN_S", 0.2)
    source = live.LiveSource(LiveAddress("camera:hangs", Hanging), live.LiveLimits(read_timeout_s=0.3))
    begin = time.monotonic()
    assert frames_until_fault(source) == ([], "camera:hangs: no frame for 0.3 s")
    source.close()
    assert time.monotonic() - begin < MAX_S
    released.set()


class DeadCapture:
    """A capture that gives what it was given, once; an exception is raised."""

    def __init__(self, *given):
        self._given = list(given)

    def get(self, what):
        return 0.0  # as of a capture that does not know

    def read(self):
        if not self._given:
            return False, None
        image = self._given.pop(0)
        if isinstance(image, Exception):
            raise image
        return True, image

    def release(self):
        pass


@pytest.mark.parametrize(
    "given, what",
    [
        (np.zeros((4, 4), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (None, "must be a numpy array, found NoneType"),
        (cv2.error("rtsp://operator:hunter2@host/x"), "OpenCV failed while reading"),
    ],
)
def test_a_camera_that_gives_no_image_is_a_fault_by_number(given, what):
    source = live.LiveSource(LiveAddress("camera:odd", lambda: DeadCapture(numbered(0), given)), live.LiveLimits())
    with closing(source):
        seen, fault = frames_until_fault(source)
    assert seen in ([], [(0, 0)])  # the frame before may have been taken or not; the mailbox still delivers it
    assert fault.startswith("camera:odd: frame 1: ") and what in fault
    assert "hunter2" not in fault


def test_opencv_that_fails_while_opening_is_a_fault_without_the_url():
    def connect():
        raise cv2.error("rtsp://operator:hunter2@host/x")

    with pytest.raises(SourceError, match="rtsp://host/x: OpenCV failed while opening") as fault:
        live.LiveSource(LiveAddress("rtsp://host/x", connect), live.LiveLimits(open_timeout_s=1, read_timeout_s=0.2))
    assert "hunter2" not in str(fault.value) and fault.value.__cause__ is None and fault.value.__context__ is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_dies_is_never_a_success():
    source = live.LiveSource(LiveAddress("camera:odd", lambda: DeadCapture(MemoryError())), live.LiveLimits())
    with closing(source):
        assert frames_until_fault(source) == ([], "camera:odd: the reader failed")


def test_a_stop_event_and_a_close_wake_a_consumer_that_waits():
    for by_event in (True, False):
        stop, released = threading.Event(), threading.Event()
        with mjpeg_server(3, then=partial(released.wait, 3 * MAX_S)) as camera:
            source = open_source(camera.url, read_timeout_s=2 * MAX_S, stop=stop)
            timer = threading.Timer(0.4, stop.set if by_event else source.close)
            timer.start()
            begin = time.monotonic()
            seen, fault = frames_until_fault(source)
            assert fault is None and time.monotonic() - begin < MAX_S
            timer.join()
            released.set()
            source.close()


def test_credentials_open_the_stream_and_appear_nowhere():
    with mjpeg_server(20) as camera:
        url = camera.url.replace("//", "//operator:hunter2@") + "/private?token=s3cr3t"
        with closing(open_source(url)) as source:
            frame = next(iter(source))
        assert camera.requests[-1][1].startswith("Basic ")
        shown = f"{camera.url}/***?token=***"
        assert frame.source == source.uri == shown
        with pytest.raises(SourceError, match="check the path, the user name and the password") as fault:
            open_source(url.replace("/private", "/missing"))
        assert "hunter2" not in str(fault.value) and "s3cr3t" not in str(fault.value)


def test_a_camera_behind_tls_must_have_a_certificate_where_one_is_asked_for(tmp_path, monkeypatch):
    pytest.importorskip("cryptography", reason="TLS OF CAMERAS NOT TESTED: pip install cryptography")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
        write_certificates(folder)
    with mjpeg_server(10**6, certificates=ours) as camera:
        url = camera.url.replace("//", "//operator:hunter2@")
        for authority in ("", str(ours / "ca.pem")):
            monkeypatch.setenv("EDGEAD_CAMERA_CA", authority)
            with closing(open_source(url)) as source:
                assert next(iter(source)).image.shape == (120, 160, 3)
        asked = len(camera.requests)
        monkeypatch.setenv("EDGEAD_CAMERA_CA", str(theirs / "ca.pem"))
        with pytest.raises(SourceError, match="its certificate is not one of EDGEAD_CAMERA_CA: .*certificate") as fault:
            open_source(url)
        monkeypatch.setenv("EDGEAD_CAMERA_CA", str(ours / "ca.pem"))
        with pytest.raises(SourceError, match="EDGEAD_CAMERA_CA: Hostname mismatch"):
            open_source(url.replace("127.0.0.1", "localhost"))
        assert len(camera.requests) == asked and "hunter2" not in str(fault.value)  # nobody got the password
    for name, why in (
        ("server.key", "is no file of certificates"),
        ("missing.pem", "is no file"),
        ("a|b", "is no file"),
    ):
        monkeypatch.setenv("EDGEAD_CAMERA_CA", str(ours / name))
        with pytest.raises(SourceError, match=f"EDGEAD_CAMERA_CA names .*{why}"):
            open_source("https://127.0.0.1:9/x")


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_an_unreachable_url_is_an_error_in_bounded_time(capfd, scheme):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        begin = time.monotonic()
        with pytest.raises(SourceError, match="cannot be reached: Connection refused") as fault:
            open_source(f"{scheme}://operator:hunter2@127.0.0.1:{port}/x", open_timeout_s=20)
    assert time.monotonic() - begin < MAX_S
    assert "hunter2" not in str(fault.value) and fault.value.__cause__ is None
    assert capfd.readouterr().err == ""


def test_a_server_that_never_answers_is_an_error_in_bounded_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with pytest.raises(SourceError, match="gives no video|did not open within"):
            open_source(f"http://127.0.0.1:{silent.getsockname()[1]}/x", open_timeout_s=0.5)
    assert time.monotonic() - begin < MAX_S


@pytest.mark.parametrize(
    "uri, shown",
    [
        ("camera:0", "camera:0"),
        ("parts/user=1.png", "parts/user=1.png"),
        ("rtsp://host:554/stream1", "rtsp://host:554/stream1"),
        ("rtsp://u:p@host:554/stream1", "rtsp://host:554/stream1"),
        ("rtsp://u:p@ss@host/x", "rtsp://host/x"),
        ("rtsp://u:p/a?s#s@host/x", "rtsp://host/x"),
        ("rtsp://u:12/34@host/x", "rtsp://host/x"),
        ("rtsp://[::1]:554/x", "rtsp://[::1]:554/x"),
        ("http://host/@me", "http://host/***"),
        ("http://host/@1", "http://host/@1"),
        ("rtsp://host/Streaming/Channels/101", "rtsp://host/Streaming/Channels/101"),
        ("rtsp://host:7447/AbCdEf123/stream1", "rtsp://host:7447/***/stream1"),
        ("http://host/v?u=kim&p=abc&width=640", "http://host/v?u=***&p=***&width=640"),
        ("http://host/v?abc#abc", "http://host/v?***"),
        ("http://host/axis-cgi/mjpg/video.cgi?fps=5", "http://host/axis-cgi/mjpg/video.cgi?fps=5"),
        ("v4l2:///dev/video0?password=x&width=3", "v4l2:///dev/video0?password=***&width=3"),
        ("webhook:http://host/hook/abc?x=1", "webhook:http://host"),
        ("http://host/v?width=640&pwd=abc&fps=5", "http://host/v?width=640&pwd=***&fps=5"),
        ("http://host/v?x=0123456789abcdef0&fps=5", "http://host/v?x=***&fps=5"),
        ("rtsp://host/user=admin_password=abc_channel=1", "rtsp://host/user=***"),
        ("rtsp:/admin:secret@cam/1", "rtsp:/cam/1"),
        ("rtsp:admin:secret@cam/1", "rtsp:cam/1"),
        ("rtsp//admin:secret@cam/1", "rtsp//cam/1"),
        ("RTSP;//admin:se/cr@et@cam/1", "RTSP;//cam/1"),
        ("rtsp:///admin:secret@cam/1", "rtsp://cam/1"),
        ("admin:secret@cam/1", "cam/1"),
        ("admin:secret@cam/1?token=abc", "cam/1?token=***"),
        ("camera:admin:secret@cam/1", "camera:cam/1"),
        ("photos/a@b.png", "photos/a@b.png"),
        ("photos/12:30/a@b.png", "photos/12:30/a@b.png"),
        ("/photos/12:30/a@b.png", "/photos/12:30/a@b.png"),
        ("C:/photos/a@b.png", "C:/photos/a@b.png"),
        (r"C:\photos\a@b.png", r"C:\photos\a@b.png"),
        ("a@b.png", "a@b.png"),
        ("images:out/a@b", "images:out/a@b"),
        ("images:a@b", "images:a@b"),
        ("jsonl:a@b.jsonl", "jsonl:a@b.jsonl"),
        ("http://host/@me:1", "http://host/***"),
        # Of two cameras; a | or ? in a password splits them wrongly.
        (
            "stereo:rtsp://u:p@one/live|rtsp://two/live?token=x?focal_px=9",
            "stereo:rtsp://one/live|rtsp://two/live?token=***?focal_px=9",
        ),
        ("stereo:camera:0|rtsp://u:p?p@two/live?focal_px=9", "stereo:camera:0|rtsp://two/live?focal_px=9"),
        ("stereo:rtsp://u:p|p@one/live|camera:0?focal_px=9", "stereo:***"),
        ("stereo:camera:0|rtsp://u:p?p@two/live", "stereo:***"),
        ("stereo:rtsp://u:p@one/live", "stereo:***"),
    ],
)
def test_what_is_shown_of_a_uri(uri, shown):
    SINKS.all()  # of an unknown scheme less is shown
    assert without_credentials(uri) == shown


# The mailbox


def frame_number(number):
    return Frame(np.zeros((1, 1, 3), np.uint8), number, 0, None, "test")


def test_the_mailbox_keeps_the_newest_frame_and_counts_the_others():
    mailbox = Mailbox()
    for number in range(5):
        mailbox.put(frame_number(number))
    assert mailbox.get(0).number == 4 and mailbox.dropped == 4
    with pytest.raises(TimeoutError):
        mailbox.get(0.01)


def test_the_mailbox_delivers_the_last_frame_before_the_end_and_the_fault():
    mailbox = Mailbox()
    mailbox.put(frame_number(7))
    mailbox.end(SourceError("cable pulled"))
    mailbox.end()
    assert mailbox.get(0).number == 7
    for _ in range(2):
        with pytest.raises(SourceError, match="cable pulled"):
            mailbox.get(0)
    ended = Mailbox()
    ended.end()
    assert ended.get(0) is None


def test_a_path_beside_the_site_file_is_reported_without_dots(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "site" / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    folder = tmp_path.resolve()
    assert beside("../nosuch.avi", tmp_path / "site") == str(folder / "nosuch.avi")
    assert beside("watch:../in", tmp_path / "site") == f"watch:{folder / 'in'}"
    assert beside("link/../a.avi", tmp_path / "site") == str(folder / "elsewhere" / "a.avi")  # as the system reads it
    assert beside("video.avi", Path("site")) == "site/video.avi"
