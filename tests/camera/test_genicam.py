"""GenICam cameras: a real GigE Vision camera in software on loopback (Aravis has one), and what pixels become."""

from __future__ import annotations

import signal
import time
from contextlib import closing

import numpy as np
import pytest
from daemons import make_site, started
from gige import virtual_camera
from patience import MAX_S, wait_for, wait_until

from edgead.sources import SourceError, aravis, genicam, open_source
from edgead.sources.connection import CameraConnection, CorruptFrameError, NoFrameYetError
from edgead.sources.contract import FrameCounter
from edgead.sources.genicam import GenicamOptions, as_image
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.sources.settings import CameraSection


@pytest.fixture
def virtual():
    with virtual_camera() as camera:
        yield camera


@pytest.mark.slow
def test_a_gige_camera_is_found_by_its_serial_number_and_gives_what_was_asked_for(virtual):
    for pixel_format in ("Mono8", "Mono16", "BayerRG8", "RGB8"):
        uri = f"{virtual.uri}?pixel_format={pixel_format}&exposure_us=5000&gain=1&fps=50"
        with closing(open_source(uri, open_timeout_s=MAX_S)) as source:
            frames = [frame for frame, _ in zip(source, range(5), strict=False)]
        assert {frame.image.shape for frame in frames} == {(512, 512, 3)} and frames[0].source == source.uri
        assert all(frame.image.std() > 5 for frame in frames)
    for wrong, reason in (
        ("?pixel_format=Nope", "the camera refuses pixel_format Nope: .*not an entry"),
        ("?trigger=Line1", "the camera refuses trigger Line1: .*not an entry"),
        ("9?gain=1", f"no such camera answers; found: {virtual.serial} at 127.0.0.1"),
    ):
        with pytest.raises(SourceError, match=reason):
            open_source(virtual.uri + wrong, open_timeout_s=MAX_S)


@pytest.mark.slow
def test_the_daemons_camera_comes_back_with_a_camera_that_was_away_and_counts_what_is_lost(virtual):
    section = CameraSection(uri=f"{virtual.uri}?fps=50", read_timeout_s=2, retry_first_s=0.1, retry_most_s=0.5)
    camera = SupervisedCamera("top", section)
    mailbox = camera.subscribe()
    camera.start()
    with closing(camera):
        numbers = [mailbox.get(2 * MAX_S).number for _ in range(20)]
        assert numbers == sorted(set(numbers)) and camera.status().state == "streaming"
        virtual.kill()
        wait_until(lambda: camera.status().state == "lost")
        assert "no longer answers" in camera.status().reason or "no data" in camera.status().reason
        virtual.start()
        wait_until(lambda: camera.status().state == "streaming")
        assert mailbox.get(MAX_S).number > numbers[-1] and camera.status().reconnects >= 1


@pytest.mark.slow
def test_a_camera_that_waits_for_its_trigger_is_neither_stalled_nor_lost(virtual):
    section = CameraSection(uri=f"{virtual.uri}?trigger=Software", read_timeout_s=1, stalled_after_s=0.2)
    camera = SupervisedCamera("top", section)
    camera.start()
    with closing(camera):
        wait_until(lambda: camera.status().state == "streaming")
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            assert camera.status().state == "streaming"
            time.sleep(0.05)
        virtual.signal(signal.SIGSTOP)  # a cable that is pulled
        wait_until(lambda: camera.status().state == "lost")
        virtual.signal(signal.SIGCONT)


@pytest.mark.slow
def test_each_part_that_is_named_goes_from_the_camera_to_its_verdict_on_record(virtual, trained_model, tmp_path):
    site = make_site(trained_model, cameras={"conveyor": {"uri": f"{virtual.uri}?fps=25"}})
    site["pipelines"]["a"]["trigger"] = {"kind": "software", "within_ms": 5000}
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")
        for number in range(40):
            daemon.api.post("/api/pipelines/a/trigger", json={"serial": f"A{number}"}).raise_for_status()
            wait_for(lambda number=number: daemon.pipeline()["judged"] == number + 1, f"verdict {number}")
        camera = daemon.api.get("/api/cameras").json()[0]
        daemon.stop()
    assert [record["serial"] for record in daemon.records()] == [f"A{number}" for number in range(40)]
    assert camera["state"] == "streaming" and camera["lost_packets"] == 0


# Without a camera


class FakeCamera:
    """Gives what a test says, in place of a camera of Aravis."""

    def __init__(self, id=""):
        self.buffers, self.settings, self.missing_packets, self.gone = [], [], 0, False

    def next(self, timeout_s):
        return self.buffers.pop(0) if self.buffers else None

    def payload(self):
        if self.gone:
            raise SourceError("timeout")
        return 4

    def set(self, what, value):
        self.settings.append((what, value))

    def clear_triggers(self):
        self.settings.append("no trigger")

    def start(self):
        self.settings.append("start")

    def close(self):
        pass


@pytest.fixture
def fake(monkeypatch):
    camera = FakeCamera()
    devices = [aravis.AravisCamera("Vendor-A1", "A1", "10.0.0.7"), aravis.AravisCamera("Vendor-A2", "A2", "10.0.0.8")]
    monkeypatch.setattr(genicam, "list_devices", lambda: devices)
    monkeypatch.setattr(genicam, "Camera", lambda id: camera)
    return camera


def opened(read_timeout_s=5.0, **options):
    address = genicam.genicam_address("genicam://A1", GenicamOptions(**options), None)
    return CameraConnection(FrameCounter(address.shown), address.connect, read_timeout_s)


def buffer(frame_id, data=b"\x01\x02\x03\x04", pixel_format=0x01080001):
    pixels = None if data is None else np.frombuffer(data, np.uint8)
    return aravis.Buffer(frame_id, pixel_format, 2, 2, pixels)


def test_settings_come_in_the_order_in_which_they_depend_on_each_other(fake):
    opened(exposure_us=2000, gain=3, pixel_format="Mono8", trigger="Line1", fps=20)
    names = [one if isinstance(one, str) else one[0] for one in fake.settings]
    expected = ["pixel_format_from_string", "exposure_time", "gain", "frame_rate", "trigger"]
    assert names == ["no trigger", *expected, "start"]


def test_frames_and_packets_that_are_lost_are_counted_over_the_end_of_the_numbers(fake):
    fake.buffers = [buffer(number) for number in (65533, 65535, 1, 2, 5)]
    connection = opened()
    for _ in range(5):
        connection.read()
    fake.missing_packets = 3
    fake.buffers = [buffer(6, None)]  # a part of it is missing
    with pytest.raises(CorruptFrameError):
        connection.read()
    assert (connection.lost.packets, connection.lost.frames) == (3, 1 + 2)


def test_a_camera_without_a_trigger_that_gives_nothing_is_lost_and_one_that_is_gone_at_once(fake):
    with pytest.raises(SourceError, match="no data for"):
        opened(read_timeout_s=0.01).read()
    with pytest.raises(NoFrameYetError):
        opened(read_timeout_s=0.01, trigger="Line1").read()
    fake.gone = True
    with pytest.raises(SourceError, match="genicam://A1: no longer answers: timeout"):
        opened(trigger="Line1").read()


def test_a_camera_is_named_where_there_are_several(fake):
    for wanted, reason in (
        ("", "several cameras answer, name one; found: A1 at 10.0.0.7, A2"),
        ("A", "no such camera"),
    ):
        with pytest.raises(SourceError, match=reason):
            genicam._find(wanted, genicam.list_devices())
    for wanted in ("A2", "10.0.0.8", "Vendor-A2"):
        assert genicam._find(wanted, genicam.list_devices()).serial == "A2"


@pytest.mark.parametrize(
    ("pixel_format", "values", "expected"),
    [
        (0x01080001, np.array([[0, 255]], np.uint8), [[0, 255]]),
        (0x01100003, np.array([[0, 1023]], "<u2"), [[0, 255]]),
        (0x01100005, np.array([[15, 4095]], "<u2"), [[0, 255]]),
        (0x01100007, np.array([[256, 65535]], "<u2"), [[1, 255]]),
        (0x02180014, np.array([[[1, 2, 3]]], np.uint8), [[[3, 2, 1]]]),
        (0x02180015, np.array([[[1, 2, 3]]], np.uint8), [[[1, 2, 3]]]),
    ],
)
def test_pixels_become_eight_bits_of_grey_or_bgr(pixel_format, values, expected):
    data = np.frombuffer(values.tobytes() + b"\0\0\0", np.uint8)  # some cameras send chunks behind the pixels
    image = as_image(data, pixel_format, *values.shape[:2])
    assert image.dtype == np.uint8 and image.tolist() == expected


@pytest.mark.parametrize(
    ("pixel_format", "red_at"), [(0x01080008, (0, 1)), (0x01080009, (0, 0)), (0x0108000A, (1, 0)), (0x0108000B, (1, 1))]
)
def test_a_red_part_is_red_in_every_order_of_the_filters(pixel_format, red_at):
    mosaic = np.zeros((16, 16), np.uint8)
    mosaic[red_at[0] :: 2, red_at[1] :: 2] = 200
    assert as_image(mosaic.ravel(), pixel_format, 16, 16)[4:12, 4:12].mean((0, 1)).round().tolist() == [0, 0, 200]


def test_what_is_no_such_image_says_so():
    with pytest.raises(SourceError, match="pixel format 0x010c0006 is not read: set pixel_format to one of Mono8"):
        as_image(np.zeros(9, np.uint8), 0x010C0006, 2, 2)
    with pytest.raises(SourceError, match="2 x 2 pixels of 2 bytes are more than the 5 that came"):
        as_image(np.zeros(5, np.uint8), 0x01100005, 2, 2)


def test_a_missing_library_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(aravis, "_NAME", "libnothing.so.0")
    aravis._library.cache_clear()
    with pytest.raises(SourceError, match="need the library libnothing.so.0: `apt install libaravis-0.8-0`"):
        aravis.list_devices()
    aravis._library.cache_clear()
