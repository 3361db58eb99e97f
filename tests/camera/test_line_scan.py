"""Strips of a line-scan camera: frames have exactly their rows, whatever the heights, and say where some were lost."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from daemons import conveyor, make_site, started
from fakes import FakeDetector, numbered
from gige import virtual_camera
from hypothesis import given
from hypothesis import strategies as st
from patience import MAX_S, wait_for, wait_until

from edgead.sources import Counters, SourceError, open_source, reader
from edgead.sources.connection import CameraConnection, CorruptFrameError, LiveAddress, NoFrameYetError
from edgead.sources.contract import FrameCounter
from edgead.sources.line_scan import Joiner, LineScan, LineScanSource, joined_address
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.sources.settings import CameraSection
from edgead.stream import run
from edgead.types import COLOUR, VALUES, Frame, FrameLines

SIDE = 24


def rows(count, *, kind=np.uint8, channels=()):
    """Rows that all differ."""
    rng = np.random.default_rng(5)
    return rng.integers(0, np.iinfo(kind).max, (count, SIDE, *channels), kind, endpoint=True)


def write_strips(folder, image, height):
    folder.mkdir(exist_ok=True)
    for number, top in enumerate(range(0, len(image), height)):
        cv2.imwrite(str(folder / f"{number:03d}.png"), image[top : top + height])
    return folder


class Strips:
    """A source of given frames."""

    uri, live, counters = "line", True, Counters(99, 3)

    def __init__(self, frames):
        self._frames = frames

    def __iter__(self):
        return iter(self._frames)

    def close(self):
        pass


def strip(image, number, **others):
    return Frame(image, number, 0, datetime.now(timezone.utc), "line", **others)


class Camera:
    """Gives strips as `cv2.VideoCapture` does; None is one of which a part is missing, a number says what got lost."""

    def __init__(self, *given):
        self.given, self.lost_frames, self.lost_packets, self.waits = list(given), 0, 4, False

    def get(self, prop):
        return {cv2.CAP_PROP_FRAME_HEIGHT: 4.0, cv2.CAP_PROP_FRAME_WIDTH: SIDE}.get(prop, 0.0)

    def read(self):
        if not self.given and self.waits:
            raise NoFrameYetError(may_last=True)
        if not self.given:
            return False, None
        if isinstance(self.given[0], int):
            self.lost_frames += self.given.pop(0)
        return True, self.given.pop(0)

    def release(self):
        pass


def connected(camera, *, max_megapixels=64.0, **options):
    address = joined_address(LiveAddress("line", lambda: camera), LineScan(**options), max_megapixels)
    return CameraConnection(FrameCounter("line"), address.connect, 5.0)


# Joining


@given(st.data())
def test_joined_rows_are_the_rows_that_came(data):
    lines = data.draw(st.integers(1, 12))
    overlap = data.draw(st.integers(0, lines - 1))
    heights = data.draw(st.lists(st.integers(1, 30), max_size=12))
    channels = data.draw(st.sampled_from([(), (3,)]))
    image = rows(sum(heights), kind=data.draw(st.sampled_from([np.uint8, np.uint16])), channels=channels)
    joiner, step, found = Joiner("line", LineScan(lines=lines, overlap=overlap)), lines - overlap, []
    for top, height in zip(np.cumsum([0, *heights]), heights, strict=False):
        came = image[top : top + height].copy()
        found += joiner.add({"image": came})
        came[:] = 0  # a camera fills its buffer again
    # Only now: no frame may change after it was handed over.
    assert [where.first_line for _, where in found] == list(range(0, len(image) - lines + 1, step))
    for planes, where in found:
        np.testing.assert_array_equal(planes["image"], image[where.first_line : where.first_line + lines])
        assert planes["image"].dtype == image.dtype and where.lost_lines == 0
    assert joiner.unused == len(image) - (found[-1][1].first_line + lines if found else 0)


@given(st.lists(st.sampled_from("slls"), max_size=40), st.integers(1, 9), st.integers(1, 5), st.data())
def test_no_frame_reaches_over_a_strip_that_is_lost_and_what_is_in_none_is_counted(events, lines, height, data):
    overlap = data.draw(st.integers(0, lines - 1))
    image = rows(len(events) * height)
    joiner, joined, missing = Joiner("line", LineScan(lines=lines, overlap=overlap)), set(), set()
    for number, event in enumerate(events):
        there = range(number * height, (number + 1) * height)
        if event == "l" and number:  # how high strips are is known from the first on
            joiner.lose(strips=1)
            missing |= set(there)
            continue
        for planes, where in joiner.add({"image": image[there.start : there.stop]}):
            of_frame = range(where.first_line, where.first_line + lines)
            np.testing.assert_array_equal(planes["image"], image[of_frame.start : of_frame.stop])
            assert not missing & set(of_frame)
            before = set(range(of_frame.start)) - joined
            assert where.lost_lines == len([line for line in before if line >= max(joined, default=-1)])
            joined |= set(of_frame)


def test_strips_that_do_not_fit_each_other_or_make_too_large_a_frame_are_refused():
    joiner = Joiner("line", LineScan(lines=8))
    joiner.add({"image": rows(4)})
    with pytest.raises(SourceError, match="strip 1 has image rows of 12 uint8, the ones before image rows of 24 uint8"):
        joiner.add({"image": rows(4)[:, :12]})
    with pytest.raises(SourceError, match="strip 1 has image rows of 24 uint16"):
        joiner.add({"image": rows(4, kind=np.uint16)})
    with pytest.raises(SourceError, match="frames of 60000 lines: 24 x 60000 pixels are 1.44 megapixels"):
        Joiner("line", LineScan(lines=60_000), 1.0).add({"image": rows(4)})


# Of any source


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("lines=8&overlap=8", "an overlap of 8 lines leaves no new line in a frame of 8: it must be smaller"),
        ("lines=8&overlap=-1", "overlap: must be at least 0"),
        ("overlap=2", "lines: is missing"),
        ("lines=0", "lines: must be at least 1"),
        ("lines=8&mm_per_line=0", "mm_per_line: must be above 0"),
        ("lines=8&rat=4", "unknown option 'rat'; known are rate"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_words(tmp_path, query, reason):
    with pytest.raises(SourceError, match=reason):
        open_source(f"{write_strips(tmp_path / 'strips', rows(8), 4)}?{query}")


def test_images_that_are_sent_are_not_joined():
    with pytest.raises(SourceError, match="request:.*: each image that is sent gets its verdict, none are joined"):
        open_source("request:?lines=8")


@pytest.mark.parametrize(("kind", "channels"), [(np.uint8, ()), (np.uint8, (3,)), (np.uint16, ())])
def test_a_folder_of_strips_gives_frames_with_all_their_bits(tmp_path, caplog, kind, channels):
    image = rows(30, kind=kind, channels=channels)
    folder = write_strips(tmp_path / "line", image, 4)
    with closing(open_source(f"{folder}?lines=10&overlap=3&mm_per_line=0.5&rate=1000")) as source:
        frames = list(source)
    assert [frame.lines for frame in frames] == [FrameLines(first, 0, 0.5) for first in (0, 7, 14)]
    assert [(frame.number, frame.name) for frame in frames] == [(0, "002.png"), (1, "004.png"), (2, "005.png")]
    assert len({frame.id for frame in frames}) == 3 and source.counters == Counters(3)
    assert "6 lines at the end fill no frame" in caplog.text
    for frame in frames:
        expected = image[frame.lines.first_line :][:10]
        if kind == np.uint16:
            np.testing.assert_array_equal(frame.others[VALUES], expected)
        shown = expected if channels else np.dstack([expected // (257 if kind == np.uint16 else 1)] * 3)
        np.testing.assert_allclose(frame.image.astype(int), shown, atol=kind == np.uint16)


def test_values_of_floats_are_shown_over_the_range_of_the_whole_frame(tmp_path):
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.tiff"), np.full((4, SIDE), number, np.float32))
    (frame,) = open_source(f"{tmp_path}?lines=16")
    assert frame.image[::4, 0, 0].tolist() == [0, 85, 170, 255]
    assert frame.others[VALUES][:, 0].tolist() == np.repeat(np.arange(4.0), 4).tolist()


def test_colours_with_heights_stay_registered():
    image, heights = rows(8, channels=(3,)), rows(8, kind=np.uint16)
    others = [{VALUES: heights[top : top + 2], COLOUR: image[top : top + 2]} for top in range(0, 8, 2)]
    frames = [strip(image[2 * number :][:2], number, others=planes) for number, planes in enumerate(others)]
    (frame,) = LineScanSource(Strips(frames), LineScan(lines=7))
    for plane, expected in (("image", image), (COLOUR, image), (VALUES, heights)):
        np.testing.assert_array_equal(frame.planes[plane], expected[:7])


def test_a_gap_in_the_numbers_begins_a_frame_again_and_says_so(caplog, monkeypatch):
    monkeypatch.setattr("edgead.sources.line_scan._losses.filters", [])  # the tests before it lose many
    image = rows(40, channels=(3,))
    frames = [strip(image[4 * number :][:4], number) for number in (0, 1, 2, 4, 5, 6, 7, 8)]
    frames += [replace(strip(image[4 * number :][:4], number), connection=1) for number in (0, 1)]
    joined = list(LineScanSource(Strips(frames), LineScan(lines=8)))
    assert [frame.lines for frame in joined] == [
        FrameLines(0),
        FrameLines(16, lost_lines=8),  # strip 2, which was begun with, and strip 3
        FrameLines(24),
        FrameLines(36, lost_lines=4),  # strip 8; how many went by between two connections nobody knows
    ]
    assert [frame.number for frame in joined] == [0, 2, 3, 5]  # a model that looks at several frames begins again too
    np.testing.assert_array_equal(joined[1].image, image[16:24])
    assert "line: strips were lost: 8 lines before line 16 are in no frame" in caplog.text


# Of a camera


def test_a_camera_gives_frames_and_waits_for_their_lines_as_long_as_strips_come(monkeypatch):
    image = rows(40)
    camera = Camera(*np.split(image, 10))
    connection = connected(camera, lines=16, overlap=4)
    assert camera.given and connection.read().lines == FrameLines(0)
    monkeypatch.setattr("edgead.sources.line_scan._POLL_S", -1)
    for _ in range(2):
        with pytest.raises(NoFrameYetError):
            connection.read()
    frame = connection.read()
    assert (frame.number, frame.lines) == (1, FrameLines(12)) and connection.lost.packets == 4
    np.testing.assert_array_equal(frame.image, np.dstack([image[12:28]] * 3))
    for _ in range(2):
        with pytest.raises(NoFrameYetError):
            connection.read()
    assert connection.read().lines == FrameLines(24)
    with pytest.raises(SourceError, match="the stream ended or the connection was lost"):
        connection.read()


def test_strips_that_a_camera_lost_or_sent_in_part_begin_a_frame_again():
    image = rows(48)
    s = np.split(image, 12)
    # Strip 3 did not come, of strip 6 a part is missing.
    connection = connected(Camera(s[0], s[1], s[2], 1, s[4], s[5], None, s[7], s[8], s[9]), lines=8)
    assert connection.read().lines == FrameLines(0)
    frame = connection.read()
    assert (frame.lines, frame.number) == (FrameLines(16, lost_lines=8), 2)
    np.testing.assert_array_equal(frame.image[..., 0], image[16:24])
    with pytest.raises(CorruptFrameError):
        connection.read()
    frame = connection.read()
    assert (frame.lines, frame.number) == (FrameLines(28, lost_lines=4), 4)
    assert connection.lost.frames == 1


def test_what_a_decoder_complained_of_is_in_no_later_frame():
    image = rows(40)
    connection = connected(Camera(*np.split(image, 10)), lines=8, overlap=4)
    complaints = [False, True, False]
    log = SimpleNamespace(has_complaint=lambda: complaints.pop(0))
    found = [reader._whole_frame(connection, log) for _ in range(3)]
    assert found[1] is None
    assert [frame.lines for frame in found if frame] == [FrameLines(0), FrameLines(12, lost_lines=4)]


def test_a_camera_that_waits_for_its_trigger_between_strips_keeps_what_is_joined():
    image = rows(8)
    camera = Camera(image[:4])
    connection = connected(camera, lines=8)
    camera.waits = True
    for _ in range(2):
        with pytest.raises(NoFrameYetError):
            connection.read()
    camera.given.append(image[4:])
    np.testing.assert_array_equal(connection.read().image[..., 0], image)


def test_too_large_a_frame_is_refused_before_it_takes_memory():
    with pytest.raises(SourceError, match="24 x 60000 pixels are 1.44 megapixels, at most 1 are"):
        connection = connected(Camera(rows(4)), lines=60_000, max_megapixels=1.0)
        connection.read()


# From end to end


def test_the_stream_judges_joined_frames_and_its_records_name_their_lines(tmp_path):
    conveyor = np.vstack([numbered(number) for number in range(4)])
    folder = tmp_path / "line"
    write_strips(folder, conveyor, 50)
    detector, out = FakeDetector(), tmp_path / "out.jsonl"
    summary = run(f"{folder}?lines=120&mm_per_line=0.25", detector, [f"jsonl:{out}"])
    assert summary.fault is None and detector.seen == [0, 1, 2, 3] and summary.captured == 4
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(record["first_line"], record["first_mm"], record["lost_lines"]) for record in records] == [
        (0, 0, 0),
        (120, 30, 0),
        (240, 60, 0),
        (360, 90, 0),
    ]


def test_a_sites_camera_joins_strips_and_its_evidence_names_their_lines(trained_model, tmp_path):
    image_of_all = np.repeat(np.full((15, 128), 16, np.uint8) * np.arange(15, dtype=np.uint8)[:, None], 32, axis=0)
    write_strips(tmp_path / "line", image_of_all, 32)
    # The folder stands relative to the site file, as paths do.
    site = make_site(trained_model, cameras={"conveyor": {"uri": "line?lines=128&overlap=32&mm_per_line=0.5&rate=200"}})
    site["cameras"]["round"] = {"uri": f"{conveyor()['uri']}&lines=700&overlap=100"}
    site["pipelines"]["b"] = {"camera": "round", "model": str(trained_model), "trigger": {"kind": "software"}}
    site["store"]["evidence"] = "all"
    with started(tmp_path, site) as daemon:
        wait_until(lambda: daemon.pipeline()["judged"] == 4)
        wait_until(lambda: len(daemon.records()) == 4)
        found = [(record["number"], record["first_line"], record["first_mm"]) for record in daemon.records()]
        assert found == [(0, 0, 0), (1, 96, 48), (2, 192, 96), (3, 288, 144)]
        newest = daemon.api.get("/api/verdicts").json()["verdicts"][0]
        assert (newest["first_line"], newest["lost_lines"], newest["first_mm"]) == (288, 0, 144)
        place = f"/api/verdicts/{newest['id']}/images/frame.jpg"
        wait_until(lambda: daemon.api.get(place).status_code == 200)
        image = cv2.imdecode(np.frombuffer(daemon.api.get(place).content, np.uint8), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_allclose(image.astype(int), image_of_all[288:416], atol=3)
        daemon.wait_state("running", "b")
        wait_until(lambda: daemon.api.post("/api/pipelines/b/trigger").status_code < 300)
        asked = wait_for(lambda: daemon.api.get("/api/verdicts?pipeline=b").json()["verdicts"], "a verdict of b")
        assert asked[0]["first_line"] == 600 * asked[0]["number"] and daemon.pipeline("b")["unasked"] > 0
        daemon.stop()


@pytest.mark.slow
def test_a_gige_camera_is_read_in_a_process_of_its_own_and_its_lines_go_on_after_a_loss():
    with virtual_camera() as virtual:
        uri = f"{virtual.uri}?fps=50&lines=1280&overlap=128&mm_per_line=0.1"
        section = CameraSection(uri=uri, read_timeout_s=2, retry_first_s=0.1, retry_most_s=0.5, stalled_after_s=1)
        camera = SupervisedCamera("line", section)
        mailbox = camera.subscribe()
        camera.start()
        with closing(camera):
            frames = [mailbox.get(2 * MAX_S) for _ in range(3)]
            assert {frame.image.shape for frame in frames} == {(1280, 512, 3)}
            firsts = [frame.lines.first_line for frame in frames]
            assert firsts == sorted(firsts) and {frame.lines.mm_per_line for frame in frames} == {0.1}
            assert all(first % 1152 == 0 for first in firsts) or any(frame.lines.lost_lines for frame in frames)
            virtual.kill()
            wait_until(lambda: camera.status().state == "lost")
            virtual.start()
            wait_until(lambda: camera.status().reconnects >= 1)
            assert mailbox.get(MAX_S).lines.first_line >= firsts[-1] + 1152
