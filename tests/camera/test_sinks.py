"""Sinks with real files, a real full disk and the images looked at pixel by pixel."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone

import cv2
import numpy as np
import pytest
from fakes import full_disk, make_verdict, numbered, read_number

from edgead.components.uri import without_credentials
from edgead.images.overlay import draw_overlay
from edgead.process.installation import install_command
from edgead.serialization import frame_label
from edgead.sinks import SinkError, StopRequested, open_sink, window
from edgead.types import Frame, Part

WHEN = datetime(2024, 5, 6, 7, 8, 9, 123456, timezone.utc)


def make_frame(number, *, name="", source="camera:0", size=(120, 160)):
    return Frame(numbered(number, size=size), number, 0, WHEN, source, name)


# JSON lines


def test_a_line_tells_everything_but_the_map(tmp_path):
    path = tmp_path / "new" / "verdicts.jsonl"
    with closing(open_sink(f"jsonl:{path}")) as sink:
        sink.write(replace(make_frame(7, name="Gehäuse.png"), part=Part("A-17", "", "left")), make_verdict(0.75))
        assert json.loads(path.read_text()) == {  # already there, before the close
            "id": "",
            "pipeline": "",
            "number": 7,
            "name": "Gehäuse.png",
            "serial": "A-17",
            "batch": "",
            "recipe": "left",
            "captured_at": "2024-05-06T07:08:09.123456+00:00",
            "source": "camera:0",
            "score": None,
            "image_score": 0.75,
            "threshold": 0.5,
            "review_threshold": None,
            "typical_score": None,
            "decision": "reject",
            "p_value": None,
            "kind": None,
            "kind_p_value": None,
            "model": "",
            "measured": {},
            "boxes": [{"x": 80, "y": 40, "width": 40, "height": 20, "peak": 0.75, "place": ""}],
            "stage_times": {
                "preprocess_ms": 1.0,
                "infer_ms": 2.0,
                "score_ms": 3.0,
                "smooth_ms": 4.0,
                "age_ms": None,
                "sink_ms": None,
            },
        }


def test_lines_are_appended_and_a_torn_one_is_closed_off(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    path.write_text('{"number": 0}\n{"numb')
    with closing(open_sink(f"jsonl:{path}")) as sink:
        for number in (1, 2):
            sink.write(make_frame(number), make_verdict(0.1))
    lines = path.read_text().splitlines()
    assert lines[1] == '{"numb'
    assert [json.loads(line)["number"] for line in (lines[0], *lines[2:])] == [0, 1, 2]


def test_standard_output_is_a_sink(capsys):
    with closing(open_sink("jsonl:-")) as sink:
        sink.write(make_frame(3), make_verdict(0.1))
    assert json.loads(capsys.readouterr().out)["number"] == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="NO /dev/full ON THIS SYSTEM")
def test_a_full_device_is_an_error_that_names_it():
    with closing(open_sink("jsonl:/dev/full")) as sink:
        with pytest.raises(SinkError, match="/dev/full: cannot be written: No space left.*free some space"):
            sink.write(make_frame(0), make_verdict(0.1))


def test_a_full_disk_leaves_whole_lines_only(tmp_path):
    with full_disk(tmp_path, 16) as disk:
        path = disk / "verdicts.jsonl"
        with closing(open_sink(f"jsonl:{path}")) as sink:
            with pytest.raises(SinkError, match=f"{path}: cannot be written: No space left"):
                for number in range(1000):
                    sink.write(make_frame(number), make_verdict(0.75))
        lines = path.read_text().splitlines(keepends=True)
        assert number > 10 and [json.loads(line)["number"] for line in lines] == list(range(number))
        assert lines[-1].endswith("\n")


# Images as files


def test_images_are_named_after_frame_source_and_decision(tmp_path):
    with closing(open_sink(f"images:{tmp_path}/all")) as sink:
        sink.write(make_frame(3, name="teil 7.png"), make_verdict(0.1))
        sink.write(make_frame(12), make_verdict(0.45))
        sink.write(make_frame(1234567, source="rtsp://host:554/line/1"), make_verdict(0.9))
        sink.write(make_frame(5, source="/videos/line.avi"), make_verdict(0.9))
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        "000003_teil-7_ok.jpg",
        "000005_line_reject.jpg",
        "000012_camera-0_review.jpg",
        "1234567_rtsp-host-554-line-1_reject.jpg",
    ]


@pytest.mark.parametrize("only, count", [("all", 3), ("review", 2), ("reject", 1)])
def test_only_the_chosen_decisions_are_written(tmp_path, only, count):
    with closing(open_sink(f"images:{tmp_path}?only={only}&format=png")) as sink:
        for number, score in enumerate((0.1, 0.45, 0.9)):
            sink.write(make_frame(number), make_verdict(score))
    images = sorted(tmp_path.iterdir())
    assert len(images) == count and {path.suffix for path in images} == {".png"}
    frame, verdict = make_frame(2), make_verdict(0.9)
    assert (cv2.imread(str(images[-1])) == draw_overlay(frame.image, verdict, "frame 2")).all()


def test_a_full_disk_leaves_whole_images_only(tmp_path):
    with full_disk(tmp_path, 64) as disk:
        with closing(open_sink(f"images:{disk}?format=png")) as sink:
            noise = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
            with pytest.raises(SinkError, match=f"{disk}/.*: cannot be written: No space left"):
                for number in range(100):
                    sink.write(replace(make_frame(number), image=noise), make_verdict(0.1))
        found = sorted(disk.iterdir())
        assert 0 < len(found) == number
        assert all(cv2.imread(str(path)) is not None for path in found)


# Videos


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_video_holds_every_frame_and_appears_whole(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    sink = open_sink(f"video:{path}?fps=10")
    for number in range(12):
        sink.write(make_frame(number), make_verdict(0.1))
        assert not path.exists()
    sink.write(make_frame(12, size=(240, 320)), make_verdict(0.1))
    sink.close()
    sink.close()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    frames = []
    while (image := capture.read()[1]) is not None:
        frames.append(image)
    assert [read_number(image[image.shape[0] - 120 :]) for image in frames[:12]] == list(range(12))
    assert len(frames) == 13


def test_a_full_disk_leaves_no_half_video(tmp_path):
    with full_disk(tmp_path, 256) as disk:
        sink = open_sink(f"video:{disk}/out.avi")
        noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
        with pytest.raises(SinkError, match="the disk is full after [0-9]+ frames"):
            for number in range(1000):
                sink.write(replace(make_frame(number), image=noise), make_verdict(0.1))
        try:
            sink.close()
        except SinkError as error:
            assert "is the disk full?" in str(error)
            assert not (disk / "out.avi").exists()
        else:
            capture = cv2.VideoCapture(str(disk / "out.avi"))
            assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == number
            capture.release()
        assert not list(disk.glob(".*"))


def test_a_video_without_frames_is_not_written(tmp_path):
    open_sink(f"video:{tmp_path}/out.avi").close()
    assert list(tmp_path.iterdir()) == []


def test_a_frame_is_called_by_its_name_else_by_its_number():
    assert frame_label(make_frame(7, name="part7.png")) == "part7.png"
    assert frame_label(make_frame(7)) == "frame 7"


# The window


def test_a_machine_without_display_says_so(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if not sys.platform.startswith("linux"):
        pytest.skip("ONLY LINUX TELLS BY ITS ENVIRONMENT")
    with pytest.raises(SinkError, match="window: .*(no display|without windows).*use images:FOLDER"):
        open_sink("window:")


def test_an_opencv_without_windows_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "", raising=False)
    with pytest.raises(SinkError, match=re.escape(install_command("window"))):
        open_sink("window:")


def test_an_unreachable_display_is_an_error_and_does_not_kill_the_process(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(SinkError, match="window: "):
        open_sink("window:")


@pytest.mark.parametrize("key, ends", [(-1, False), (ord("x"), False), (ord("q"), True), (27, True)])
def test_q_and_escape_end_the_stream(monkeypatch, key, ends):
    shown = []
    monkeypatch.setattr(window, "gui_problem", lambda: None)
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "destroyWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, drawn: shown.append(drawn))
    monkeypatch.setattr(cv2, "waitKey", lambda _: key)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    with closing(open_sink("window:")) as sink:
        if ends:
            with pytest.raises(StopRequested):
                sink.write(make_frame(0), make_verdict(0.9))
        else:
            sink.write(make_frame(0), make_verdict(0.9))
    assert len(shown) == 1


# URIs


@pytest.mark.parametrize(
    "uri, what",
    [
        ("verdicts.jsonl", "unknown sink; known are jsonl:PATH"),
        ("mqt://user:hunter2@broker/x", "unknown sink"),
        ("mqtt://user:hunter2@broker", "mqtt://broker: the topic is missing, such as mqtt://broker/edgead"),
        ("mqtt://user:hunter2@broker:port/x", "cannot be read as HOST:PORT"),
        ("mqtt://user:hunter2/@broker/x", "cannot be read as HOST:PORT"),
        ("mqtt://user:hunter2@/x", "host or port are missing"),
        ("mqtt://user:hunter2@broker/x?qos=3", "qos: must be at most 2"),
        ("mqtt://user:hunter2@broker/x?qoss=1", "unknown option 'qoss'; known are ca_file, client_id, qos"),
        ("webhook:user:hunter2@broker/x", "must begin with http"),
        ("webhook:", "webhook:: url: must not be empty"),
        ("modbus://", "host or port are missing"),
        ("sqlite:", "the folder is missing"),
        ("sqlite:out?evidence=some", "evidence: must be 'none', 'reject', 'review' or 'all'"),
        ("jsonl:", "the path is missing"),
        ("window:foo", "window:foo: a window takes no name"),
        ("jsonl:out?flush=1", "unknown option 'flush'; it takes none"),
        ("images:out?onyl=all", "unknown option 'onyl'; known are format, only"),
        ("images:out?only=bad", "only: must be 'all', 'review' or 'reject'"),
        ("images:out?format=gif", "format: must be 'jpg' or 'png'"),
        ("video:out.mkv", "must end with .avi or .mp4"),
        ("video:out.avi?fps=0", "fps: must be above 0"),
    ],
)
def test_a_wrong_uri_says_what_is_known(tmp_path, monkeypatch, uri, what):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SinkError, match=what) as error:
        open_sink(uri)
    assert "hunter2" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri, shown",
    [
        ("webhook:https://anna:hunter2@host/x?token=hunter2", "webhook:https://host"),
        ("mqtts://anna:hunter2@host:8883/x", "mqtts://host:8883/x"),
        ("mqtt:/anna:hunter2@host/x", "mqtt:/host/x"),
        ("modbus://host:502?coil=3", "modbus://host:502?coil=3"),
    ],
)
def test_what_is_shown_of_a_uri_holds_no_credentials(uri, shown):
    assert without_credentials(uri) == shown


def test_a_path_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    for uri in ("jsonl:{}/x.jsonl", "images:{}/x", "video:{}/x/y.avi"):
        with pytest.raises(SinkError, match=f"{tmp_path}/file.*cannot be written"):
            open_sink(uri.format(tmp_path / "file"))


# Overlays


def below_strip(drawn, image):
    return drawn[drawn.shape[0] - image.shape[0] :]


def test_an_image_without_warm_places_stays_as_it_is():
    image = np.random.default_rng(3).integers(0, 255, (240, 240, 3), np.uint8)
    before = image.copy()
    drawn = draw_overlay(image, make_verdict(0.3), "part7.png")
    assert (below_strip(drawn, image) == image).all() and (image == before).all()
    assert drawn.shape[0] - 240 in (18, 36)


def test_colours_are_anchored_at_the_threshold():
    image = np.full((120, 160, 3), 90, np.uint8)
    verdict = replace(make_verdict(0.9), boxes=(), decision="ok")
    hotter = verdict.anomaly_map.copy()
    hotter[50:58, 5:12] = 5.0  # another, much hotter place must not change the first
    one, two = (below_strip(draw_overlay(image, v), image) for v in (verdict, replace(verdict, anomaly_map=hotter)))
    assert (one[40:60, 80:120] == two[40:60, 80:120]).all()
    centre = one[50, 100].astype(int)
    assert centre[2] > centre[1] > centre[0]  # between yellow and red
    assert (one[:10] == 90).all() and (one[:, :60] == 90).all()


@pytest.mark.parametrize("threshold", [0.0, -2.0, float("inf"), float("nan")])
def test_any_threshold_can_be_drawn(threshold):
    image = np.full((120, 160, 3), 90, np.uint8)
    drawn = draw_overlay(image, replace(make_verdict(0.3), map_threshold=threshold))
    assert drawn.dtype == np.uint8
    if not np.isfinite(threshold):
        assert (below_strip(drawn, image) == image).all()


def test_heat_lies_in_the_region_that_the_map_covers():
    image = np.full((120, 160, 3), 90, np.uint8)
    verdict = replace(make_verdict(0.9), boxes=(), decision="ok", region=(80, 60, 80, 60))
    changed = (below_strip(draw_overlay(image, verdict), image) != 90).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert 76 <= rows.min() and rows.max() <= 94 and 116 <= columns.min() and columns.max() <= 144


@pytest.mark.parametrize("size", [(1, 1), (8, 30), (240, 240), (1500, 2000)])
def test_every_size_gets_a_strip(size):
    image = np.zeros((*size, 3), np.uint8)
    drawn = draw_overlay(image, make_verdict(0.9), "a rather long name of a file.png")
    strip = drawn[: drawn.shape[0] - size[0]]
    assert drawn.shape[1] == size[1] and strip.shape[0] >= 18
    if size[1] >= 240:
        letters = (strip.min(axis=2) > 200).any(axis=1)
        assert letters.sum() >= 8  # rows that hold white letters
