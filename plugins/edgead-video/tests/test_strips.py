"""Strips: from frames, from a source with gaps, and by the command; what is shown of a source hides passwords."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import run_here
from drawn_clips import draw_clip

from edgead.components.options import NoOptions
from edgead.images.files import load_image, write_image
from edgead.sources import SOURCES, Counters, SourceError, open_source, without_credentials
from edgead.sources.live import LiveLimits
from edgead.types import Frame
from edgead_video.command import write_strips
from edgead_video.sheet import draw_chart
from edgead_video.source import StripSource, open_strips
from edgead_video.strips import FRAMES, SIDE, Ring, shrunk, strips


def frame(number: int, **given) -> Frame:
    image = np.full((4, 6, 3), number, np.uint8)
    return replace(Frame(image, number, 0, datetime.now(timezone.utc), "camera", "", str(number)), **given)


def numbers_of(strip: np.ndarray) -> list[int]:
    assert strip.shape == (FRAMES * 4, 6, 3)
    return strip[::4, 0, 0].tolist()


class Given:
    """A source of frames that are given."""

    uri, live, counters, closed = "given", False, Counters(7), False

    def __init__(self, *frames: Frame):
        self.frames = frames

    def __iter__(self):
        return iter(self.frames)

    def close(self):
        self.closed = True


def test_a_strip_has_the_last_five_frames_the_newest_below():
    found = list(strips([np.full((4, 6, 3), number, np.uint8) for number in range(7)]))
    assert [numbers_of(strip) for strip in found] == [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]


def test_frames_of_another_size_begin_again_and_large_ones_are_shrunk():
    ring = Ring()
    small, other = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 8, 3), np.uint8)
    assert [ring.add(x) is not None for x in [small] * 4 + [other] * 5] == [False] * 8 + [True]
    assert shrunk(np.zeros((480, 640, 3), np.uint8), SIDE).shape == (240, 320, 3)
    assert shrunk(small, SIDE) is small


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([frame(number) for number in range(4, 7)], [4, 5, 6]),
        ([frame(number) for number in range(5, 12)], [9, 10, 11]),  # 4 is missing
        ([frame(number, connection=2) for number in range(4, 10)], [8, 9]),
        ([frame(number, source="other") for number in range(4, 10)], [8, 9]),
    ],
    ids=["whole", "a gap", "another connection", "another source"],
)
def test_a_strip_has_no_gap(others, expected):
    source = StripSource(Given(*(frame(number) for number in range(4)), *others))
    found = list(source)
    assert [one.number for one in found] == expected
    for one in found:
        assert numbers_of(one.image) == list(range(one.number - 4, one.number + 1))
        assert one.id == str(one.number) and one.source == "strips:given"
    assert source.counters.captured == 7
    source.close()
    assert source._source.closed


def test_sources_are_registered_and_a_camera_is_live():
    names = {scheme: component for component in SOURCES.all().values() for scheme in component.schemes}
    assert not names["strips"].live and names["strips+camera"].live and names["strips+rtsp"].live


def test_passwords_of_cameras_are_not_shown():
    assert without_credentials("strips+rtsp://user:pass@host/live") == "strips+rtsp://host/live"
    assert without_credentials("strips+http://user:pass@host/live?token=abc") == "strips+http://host/live?token=***"


def test_what_cannot_be_opened_is_named(tmp_path):
    for uri, message in (
        ("strips:missing.mp4", "no such file"),
        ("strips:strips:missing.mp4", "scheme once"),
        (
            "strips:rtsp://user:pass@host",
            "^strips: is for files and folders; a camera of the network is strips.rtsp://",
        ),
    ):
        with pytest.raises(SourceError, match=message):
            open_strips(uri, NoOptions(), LiveLimits())


@pytest.fixture
def clips(tmp_path):
    for name in ("one", "two"):
        for number, image in enumerate(draw_clip(len(name), 7)):
            write_image(tmp_path / name / f"{number}.png", image)
    return [tmp_path / "one", tmp_path / "two"]


def test_a_source_of_strips_opens_by_its_name(clips):
    source = open_source(f"strips:{clips[0]}")
    assert [one.number for one in source] == [4, 5, 6]


def test_strips_of_clips_are_a_data_set_with_groups(clips, tmp_path):
    assert "6 strips of 2 clips" in run_here("video", "strips", *clips, "-o", tmp_path / "data").stdout
    files = sorted(path.name for path in (tmp_path / "data" / "train" / "good").iterdir())
    assert files == [f"{clip}_{number:06d}.png" for clip in ("one", "two") for number in (4, 5, 6)]
    with (tmp_path / "data" / "groups.csv").open() as file:
        groups = {row["path"]: row["group"] for row in csv.DictReader(file)}
    assert groups == {f"train/good/{name}": name[:3] for name in files}
    strip = load_image(tmp_path / "data" / "train" / "good" / files[0])
    np.testing.assert_array_equal(strip[-64:], load_image(clips[0] / "4.png"))
    assert write_strips(clips, tmp_path / "data", into="test/jam", every=2) == 4
    assert len(list((tmp_path / "data" / "test" / "jam").iterdir())) == 4
    assert len((tmp_path / "data" / "groups.csv").read_text().splitlines()) == 1 + 6 + 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clips: [clips[0], clips[0]], "two clips are called one"),
        (lambda clips: [clips[0] / "0.png"], "no clip has 5 frames"),
    ],
)
def test_clips_that_make_no_data_set_are_named(change, message, clips, tmp_path):
    ended = run_here("video", "strips", *change(clips), "-o", tmp_path / "data")
    assert ended.returncode == 2 and message in ended.stderr


def test_a_chart_shades_events_and_draws_the_limit():
    scores, events = np.linspace(0, 1, 20), np.arange(20) >= 10
    plain, shaded = draw_chart(scores, 0.5), draw_chart(scores, 0.5, events)
    changed = (plain != shaded).any(axis=(0, 2))
    assert not changed[:600].any() and changed[800:].any()
    assert (plain == (80, 80, 240)).all(2).any() and not (draw_chart(scores, None) == (80, 80, 240)).all(2).any()
    assert draw_chart(np.zeros(1), None).shape == plain.shape


def test_the_sheet_has_a_band_for_each_clip(monkeypatch):
    from edgead_video import sheet

    monkeypatch.setattr(sheet, "draw_heat", lambda image, verdict: image)
    strip = np.zeros((FRAMES * 20, 30, 3), np.uint8)
    judged = [
        SimpleNamespace(clip=clip, number=number, strip=strip, verdict=SimpleNamespace(image_score=float(number)))
        for clip in ("a", "b")
        for number in range(4, 9)
    ]
    both, one = sheet.draw_sheet(judged, 5.0), sheet.draw_sheet(judged[:5], None)
    assert both.shape == (2 * one.shape[0], *one.shape[1:])
