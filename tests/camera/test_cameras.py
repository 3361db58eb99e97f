"""Supervised cameras with real streams: servers that die, hang and lie, readers that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from fakes import free_port, numbered, read_number, write_video
from patience import MAX_S, wait_until
from system_packages import require

from edgead.components.options import NoOptions
from edgead.images.files import write_image
from edgead.process.real_time import Scheduling
from edgead.sources import SOURCES, LiveLimits, SourceError, live_address, open_source
from edgead.sources.health import HealthWatch
from edgead.sources.network import ffmpeg_refuses
from edgead.sources.registry import SourceComponent
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.sources.settings import CameraSection
from edgead.synthetic.line import render
from edgead.synthetic.source import SyntheticOptions, SyntheticSource

FAST = {"retry_first_s": 0.05, "retry_most_s": 0.2, "read_timeout_s": 3.0, "stalled_after_s": 1.0}


@contextmanager
def camera(uri, **settings):
    supervised = SupervisedCamera("top", CameraSection(uri=uri, **(FAST | settings)))
    mailbox = supervised.subscribe()
    with closing(supervised):
        supervised.start()
        yield supervised, mailbox


def wait_for(supervised, state, **more):
    """Wait until the status is as wanted; returns it."""
    deadline = time.monotonic() + 2 * MAX_S
    wanted = {"state": state, **more}
    while time.monotonic() < deadline:
        status = supervised.status()
        if all(getattr(status, name) == value for name, value in wanted.items()):
            return status
        time.sleep(0.01)
    raise AssertionError(f"not {wanted}: {supervised.status()}")


def readers():
    """The reader processes of this process."""
    return [child for child in psutil.Process().children() if "edgead.sources.reader" in " ".join(child.cmdline())]


class Stream:
    """MPEG-TS over HTTP from a real FFmpeg, which serves one client."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/line.ts"
        self._process = None

    def start(self):
        source = ["-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=25"]
        coding = ["-c:v", "mpeg2video", "-g", "5", "-f", "mpegts", "-listen", "1", self.url]
        command = ["ffmpeg", "-hide_banner", "-loglevel", "quiet", "-nostdin", *source, *coding]
        self._process = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while not self._listens() and time.monotonic() < deadline:
            if self._process.poll() is not None:  # the port was taken meanwhile
                self._process = subprocess.Popen(command)
            time.sleep(0.02)
        assert self._listens(), "FFmpeg does not listen"

    def _listens(self):
        """Whether it waits for its client or has it, without being one: it serves no second."""
        listen, established = "0A", "01"
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return any(fields[1].endswith(f":{self.port:04X}") and fields[3] in (listen, established) for fields in sockets)

    def signal(self, number):
        self._process.send_signal(number)

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def stream():
    if not ffmpeg_refuses():
        pytest.skip("this OpenCV's cameras are asked for redirects first, and the server has one client")
    require("ffmpeg")
    server = Stream()
    yield server
    server.kill()


@contextmanager
def images(images):
    """Serve what an iterator gives as MJPEG to one client after the other: images, or bytes that are none."""
    stopped = threading.Event()

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                for image in images():
                    if stopped.wait(0.02):
                        return
                    data = image if isinstance(image, bytes) else cv2.imencode(".jpg", image)[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
            except ConnectionError:
                pass

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/live.mjpg"
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


def endless(size=(120, 160)):
    number = 0
    while True:
        yield numbered(number % 65536, size=size)
        number += 1


def test_frames_come_with_their_times_and_the_name_of_their_camera():
    with images(endless) as url, camera(url) as (top, mailbox):
        assert top.status().state == "connecting"
        frames = [mailbox.get(MAX_S) for _ in range(20)]
        assert {frame.source for frame in frames} == {"top"}
        assert [frame.number for frame in frames] == sorted({frame.number for frame in frames})
        assert len({frame.id for frame in frames}) == 20
        # Taken in another process, on a clock that is the same there.
        assert all(0 <= time.perf_counter_ns() - frame.captured_ns < MAX_S * 1e9 for frame in frames)
        seen = [read_number(frame.image) for frame in frames]
        assert [b - a for a, b in zip(seen, seen[1:], strict=False)] == [
            b.number - a.number for a, b in zip(frames, frames[1:], strict=False)
        ]
        status = top.status()
        assert (status.state, status.reason, status.reconnects, status.corrupt) == ("streaming", None, 0, 0)
        assert status.fps > 1 and status.age_s < MAX_S
        assert top.latest().number >= frames[-1].number


@pytest.mark.slow
def test_a_server_that_is_killed_twenty_times(stream):
    descriptors = threads = None
    with ExitStack() as stack:
        top, mailbox = stack.enter_context(camera(stream.url))
        other, other_mailbox = stack.enter_context(camera("synthetic:?count=20&rate=20&repeat=1"))
        wait_for(other, "streaming")
        numbers, seen_lost = [], 0
        for restart in range(21):
            stream.start()
            wait_for(top, "streaming", reconnects=restart)
            numbers += [mailbox.get(MAX_S).number for _ in range(3)]
            if restart == 1:
                process = psutil.Process()
                descriptors, threads = process.num_fds(), process.num_threads()
            before = other.status().captured
            begin = time.monotonic()
            stream.kill()
            seen_lost += "lost" in wait_for(top, "lost").reason or "reached" in top.status().reason
            elapsed_s = time.monotonic() - begin
            assert other.status().state == "streaming"
            assert other.status().captured - before >= 20 * elapsed_s * 0.5 - 2
        assert seen_lost == 21
        assert numbers == sorted(set(numbers))
        assert psutil.Process().num_fds() <= descriptors + 2
        assert psutil.Process().num_threads() <= threads + 2
        assert other_mailbox.get(1).source == "top"


def test_a_stream_that_hangs_is_stalled_then_lost_then_there_again(stream):
    stream.start()
    with camera(stream.url) as (top, mailbox):
        wait_for(top, "streaming")
        stream.signal(signal.SIGSTOP)
        assert wait_for(top, "stalled").reason == "no frame for more than 1 s"
        captured = top.status().captured
        lost = wait_for(top, "lost")
        assert "no data for" in lost.reason or "lost" in lost.reason or "hangs" in lost.reason
        assert top.status().captured - captured <= 2  # what was on the way; nothing is made up
        stream.kill()
        stream.start()
        assert wait_for(top, "streaming").reconnects == 1


def test_frames_change_their_size():
    sizes = [(120, 160), (240, 320), (60, 80)]

    def changing():
        size = sizes[0]
        for number in range(40):
            yield numbered(number, size=size)
        if len(sizes) > 1:  # not before: who only asks for redirects leaves early
            del sizes[0]
        # OpenCV goes on with the size that a stream began with: it scales what comes in another.
        for number in range(20):
            yield numbered(number, size=(size[0] * 2, size[1] * 2))

    with images(changing) as url, camera(url) as (top, mailbox):
        shapes = []
        deadline = time.monotonic() + 2 * MAX_S
        while len(set(shapes)) < 3 and time.monotonic() < deadline:
            shapes.append(mailbox.get(MAX_S).image.shape[:2])
        assert list(dict.fromkeys(shapes)) == [(120, 160), (240, 320), (60, 80)]
        assert top.status().reconnects == 2


def test_data_that_is_no_image_ends_neither_the_camera_nor_becomes_a_frame():
    def lying():
        for number in range(30):
            yield numbered(number)
        for _ in range(20):
            yield os.urandom(3000)
        yield from endless()

    with images(lying) as url, camera(url) as (top, mailbox):
        deadline = time.monotonic() + MAX_S
        while top.status().captured < 120 and time.monotonic() < deadline:
            frame = mailbox.get(MAX_S)
            assert frame.image[30:].std() < 5
        assert top.status().captured >= 120
        wait_for(top, "streaming")


def test_damaged_images_are_counted_and_not_judged():
    """OpenCV hands them out: grey from where the data end, or with blocks that were never there.

    Bytes by chance may be a JPEG too, which nobody can see; an image that is cut short is always known.
    """
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8), (0, 0), 2)

    def damaged():
        rng = np.random.default_rng(1)
        for number in range(1000):
            image = numbered(number)
            image[20:] = texture[20:]
            data = bytearray(cv2.imencode(".jpg", image)[1].tobytes())
            middle = len(data) // 2
            if number % 5 == 2:
                data[middle:] = b""
            elif number % 5 == 4:
                data[middle : middle + 300] = rng.bytes(300)
            yield bytes(data)

    with (
        images(damaged) as url,
        camera(url) as (top, mailbox),
        camera("synthetic:?count=5&rate=5&repeat=1") as aside,
    ):
        wait_for(aside[0], "streaming")
        before, begin = aside[0].status().captured, time.monotonic()
        while top.status().captured < 60:
            number = read_number((frame := mailbox.get(MAX_S)).image)
            assert number % 5 != 2
            assert number % 5 == 4 or np.abs(frame.image[30:].astype(int) - texture[30:]).mean() < 10
        status = top.status()
        assert (status.state, status.reconnects) == ("streaming", 0)
        assert 0.2 < status.corrupt / (status.corrupt + status.captured) < 0.5  # two of five
        assert aside[0].status().captured - before >= 5 * (time.monotonic() - begin) * 0.5 - 2


def test_a_stream_that_gives_nothing_but_damage_is_lost():
    def damaged():
        data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))[1].tobytes()
        yield data
        while True:
            yield data[: len(data) // 2]

    with images(damaged) as url, camera(url) as (top, _):
        lost = wait_for(top, "lost")
        assert lost.reason.endswith("corrupt frames in a row") and lost.corrupt > 100
        assert lost.captured <= 2


def test_a_frozen_image_is_reported():
    def frozen():
        for number in range(10):
            yield numbered(number)
        while True:
            yield numbered(10)

    with images(frozen) as url, camera(url, frozen_after=8) as (top, _):
        status = wait_for(top, "streaming", health=("frozen",))
        assert status.duplicates >= 7
        assert status.captured >= 8


def test_a_reader_that_hangs_inside_opencv_is_ended():
    with images(endless) as url, camera(url) as (top, _):
        wait_for(top, "streaming")
        (reader,) = readers()
        reader.suspend()  # what a read that never returns looks like from outside
        assert wait_for(top, "stalled")
        lost = wait_for(top, "lost")
        assert "hangs, no frame for" in lost.reason and lost.reason.endswith("its reader process was ended")
        wait_for(top, "streaming", reconnects=1)
        assert not psutil.pid_exists(reader.pid) or psutil.Process(reader.pid) != reader


def test_a_reader_that_is_killed_is_replaced():
    with images(endless) as url, camera(url) as (top, _):
        wait_for(top, "streaming")
        readers()[0].kill()
        assert "its reader process ended (signal 9)" in wait_for(top, "lost").reason
        wait_for(top, "streaming", reconnects=1)
    assert readers() == []


def test_readers_do_not_outlive_their_parent(tmp_path):
    code = """
import sys, time
from edgead.sources.settings import CameraSection
from edgead.sources.reopened_camera import SupervisedCamera
SupervisedCamera("top", CameraSection(uri=sys.argv[1])).start()
time.sleep(600)
"""
    with images(endless) as url, subprocess.Popen([sys.executable, "-c", code, url]) as parent:
        deadline = time.monotonic() + MAX_S
        while not (children := psutil.Process(parent.pid).children()) and time.monotonic() < deadline:
            time.sleep(0.05)
        parent.kill()
        gone, alive = psutil.wait_procs(children, timeout=MAX_S)
    assert len(gone) == 1 and not alive


def test_nobody_can_read_the_password_of_a_camera():
    with images(endless) as url:
        secret = url.replace("http://", "http://operator:hunter2@")
        with camera(secret) as (top, _):
            wait_for(top, "streaming")
            process = Path(f"/proc/{readers()[0].pid}")
            assert b"hunter2" not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            assert top.status().uri == url
            assert "hunter2" not in repr(top.status())
    with camera("http://operator:hunter2@127.0.0.1:9/x") as (top, _):
        assert "127.0.0.1:9" in wait_for(top, "lost").reason
        assert "hunter2" not in repr(top.status())


def test_a_camera_that_is_not_there_is_lost_and_tried_again():
    with camera("camera:/dev/video99") as (top, mailbox):
        assert "no camera at /dev/video99" in wait_for(top, "lost").reason
        with pytest.raises(TimeoutError):
            mailbox.get(0.3)
        assert top.status().captured == 0


# What is attached to the computer


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("v4l2://dev/video0", "three slashes"),
        ("v4l2:///dev/video99", "no camera at /dev/video99"),
        ("v4l2:///dev/null?fourcc=JPG", "four characters"),
        ("v4l2:///dev/null", "cannot be opened"),
    ],
)
def test_what_cannot_be_opened_says_why(uri, what):
    with pytest.raises(SourceError, match=what):
        open_source(uri)


class Device:
    """A V4L2 device that takes the nearest of its sizes and formats, as drivers do."""

    def __init__(self, *_):
        self._given = {cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"YUYV"), cv2.CAP_PROP_FRAME_WIDTH: 640}

    def isOpened(self):
        return True

    def set(self, setting, value):
        # Only MJPG has the large size, so that the order matters.
        large = self._given[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
        self._given[setting] = 640 if setting == cv2.CAP_PROP_FRAME_WIDTH and not large else value

    def get(self, setting):
        return float(self._given.get(setting, 0))

    def release(self):
        pass


def test_a_v4l2_camera_gives_what_was_asked_for_or_says_what_it_gives(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Device)
    live_address("v4l2:///dev/null?width=1280&fourcc=MJPG", LiveLimits()).connect()
    with pytest.raises(SourceError, match="the camera gives width 640 instead"):
        live_address("v4l2:///dev/null?width=1280&fourcc=YUYV", LiveLimits()).connect()


# Recordings


def test_a_recording_gives_each_frame_once_to_everyone_and_ends(tmp_path):
    for number in range(12):
        write_image(tmp_path / f"{number:02d}.png", numbered(number))
    top = SupervisedCamera("top", CameraSection(uri=str(tmp_path)))
    mailboxes = [top.subscribe(), top.subscribe()]
    with closing(top):
        top.start()
        for number in range(12):
            assert [read_number(mailbox.get(MAX_S).image) for mailbox in mailboxes] == [number, number]
        assert [mailbox.get(MAX_S) for mailbox in mailboxes] == [None, None]
        status = top.status()
        assert (status.state, status.captured) == ("ended", 12)
        assert status.reason == "the recording has come to its end"
        assert all(mailbox.dropped == 0 for mailbox in mailboxes)
        assert top.subscribe().get(MAX_S) is None


def test_health_is_measured_by_the_golden_images_of_the_models_in_service(tmp_path):
    sharp = render(0)[0]
    blurred = cv2.GaussianBlur(sharp, (0, 0), 4)
    write_image(tmp_path / "0.png", blurred)
    for golden, health in (([sharp], ("blurred",)), ([blurred], ()), ([sharp, sharp, blurred], ("blurred",))):
        top = SupervisedCamera("top", CameraSection(uri=str(tmp_path)))
        top.compare_with("a", [sharp])
        top.compare_with("a", golden)  # another model
        top.compare_with("b", [])
        mailbox = top.subscribe()
        with closing(top):
            top.start()
            while mailbox.get(MAX_S) is not None:
                pass
            assert top.status().health == health


def test_no_frame_waits_for_a_check_of_health(tmp_path, monkeypatch):
    write_image(tmp_path / "0.png", render(0)[0])
    taken = []
    with closing(SupervisedCamera("top", CameraSection(uri=str(tmp_path), **FAST))) as top:
        mailbox = top.subscribe()
        monkeypatch.setattr(HealthWatch, "check", lambda _, frame: taken.append(mailbox.get(0)) or ())
        top.start()
        wait_for(top, "ended")
    assert [frame.number for frame in taken] == [0]


def test_frames_that_are_lost_between_the_readers_process_and_the_camera_are_counted(monkeypatch):
    """As where the machine is too busy to look into their memory in time."""
    delivered: list[int] = []

    def busy(self, frame):
        delivered.append(frame.number)
        time.sleep(0.05)

    monkeypatch.setattr(SupervisedCamera, "_check_health", busy)
    taken = []
    with images(endless) as url, camera(url) as (_, mailbox):
        while len(taken) < 8:
            taken.append(mailbox.get(MAX_S))
    with suppress(SourceError):
        while (last := mailbox.get(1)) is not None:
            taken.append(last)
    assert len(delivered) < delivered[-1] - delivered[0] + 1 == len(taken) + mailbox.dropped


def test_its_thread_and_its_reader_are_as_urgent_as_asked_but_not_what_measures_health(fifo_allowed, monkeypatch):
    checked_as = []
    monkeypatch.setattr(HealthWatch, "check", lambda *_: checked_as.append(os.sched_getscheduler(0)) or ())
    with images(endless) as url:
        top = SupervisedCamera("top", CameraSection(uri=url, **FAST))
        top.scheduling = Scheduling(1)
        with closing(top):
            top.start()
            wait_for(top, "streaming")
            (thread,) = (one for one in threading.enumerate() if one.name == "camera top")
            wait_until(lambda: checked_as and os.sched_getscheduler(thread.native_id) == os.SCHED_FIFO)
            assert [os.sched_getscheduler(reader.pid) for reader in readers()] == [os.SCHED_FIFO]
    assert set(checked_as) == {os.SCHED_OTHER}


def test_a_recording_that_fails_is_not_begun_again(tmp_path):
    path = write_video(tmp_path / "cut.avi", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with camera(str(path)) as (top, mailbox):
        seen = []
        while (frame := mailbox.get(MAX_S)) is not None:
            seen.append(read_number(frame.image))
        assert seen == list(range(len(seen))) and 20 < len(seen) < 60
        status = top.status()
        assert status.state == "lost" and "frames are missing or damaged" in status.reason


class Dying(SyntheticSource):
    """A camera with a programming interface of its own, which is lost after two frames."""

    live = True


def test_a_live_source_that_opencv_does_not_read_is_opened_again(monkeypatch):
    def opened(uri, options, limits):
        source = Dying("synthetic:?count=2&rate=50", SyntheticOptions(count=2, rate=50))
        source.uri = uri
        return source

    dying = SourceComponent("dying", NoOptions, {"dying": "dying:"}, opened, None, live=True, has_query=True)
    monkeypatch.setitem(SOURCES._components, "dying", dying)
    with camera("dying:") as (supervised, mailbox):
        numbers = [mailbox.get(MAX_S).number for _ in range(3)]
        assert numbers == sorted(set(numbers)) and numbers[-1] >= 2  # they go on after a new connection
        wait_for(supervised, "lost", reason="the stream has come to its end")


def test_the_conveyor_waits_for_nobody():
    with camera("synthetic:?count=5&rate=50&repeat=1") as (top, mailbox):
        wait_for(top, "streaming")
        wait_until(lambda: mailbox.dropped > 10)


def test_a_recording_with_a_rate_gives_each_frame_once_when_it_is_due(tmp_path):
    for number in range(6):
        write_image(tmp_path / f"{number:02d}.png", numbered(number))
    with camera(f"{tmp_path}?rate=20") as (top, mailbox):
        frames = [mailbox.get(MAX_S) for _ in range(6)]
        assert [read_number(frame.image) for frame in frames] == list(range(6))
        assert frames[-1].captured_ns - frames[0].captured_ns > 0.9 * 5 / 20 * 1e9
        assert mailbox.get(MAX_S) is None and mailbox.dropped == 0
        assert wait_for(top, "ended").captured == 6


def test_closing_ends_the_wait_for_a_slow_conveyor():
    with camera("synthetic:?count=2&rate=0.01") as (top, mailbox):
        mailbox.get(MAX_S)
        begin = time.monotonic()
    assert time.monotonic() - begin < MAX_S
    assert mailbox.get(1) is None


def test_a_folder_that_is_missing_is_lost_with_the_reason(tmp_path):
    with camera(str(tmp_path / "nothing")) as (top, _):
        assert "no such file or folder" in wait_for(top, "lost").reason
    assert np.isfinite(top.status().captured)


def test_a_camera_that_is_closed_while_its_source_opens_ends_its_thread(monkeypatch):
    opening, closed = threading.Event(), threading.Event()

    def slowly(uri, **options):
        opening.set()
        assert closed.wait(MAX_S)
        return open_source(uri, **options)

    monkeypatch.setattr("edgead.sources.reopened_camera.open_source", slowly)
    monkeypatch.setattr("edgead.sources.reopened_camera._JOIN_S", 0.1)
    camera = SupervisedCamera("top", CameraSection(uri="request:"))
    camera.start()
    assert opening.wait(MAX_S)
    camera.close()
    closed.set()
    wait_until(lambda: not camera._thread.is_alive())


def test_who_comes_and_goes_at_the_same_time_loses_no_mailbox():
    camera, interval = SupervisedCamera("top", CameraSection(uri="request:")), sys.getswitchinterval()

    def come_and_go():
        for _ in range(2000):
            camera.unsubscribe(camera.subscribe())

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=come_and_go) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert camera._mailboxes == []
    finally:
        sys.setswitchinterval(interval)
