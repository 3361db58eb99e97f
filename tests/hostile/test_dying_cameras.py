"""Cameras whose thread or reader fails of what nobody foresaw: the state says so, and frames come again."""

from __future__ import annotations

from contextlib import closing

import cv2
import pytest
from fakes import mjpeg_server
from patience import wait_for

from edgead.sources.health import HealthWatch
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.sources.settings import CameraSection

FAST = {"retry_first_s": 0.05, "retry_most_s": 0.2, "stalled_after_s": 1.0}
UNFORESEEN = [MemoryError(), ValueError("kim:hunter2"), cv2.error("of OpenCV"), RuntimeError("x"), KeyError("x")]


def once(error):
    """Give a method that fails once, and afterwards does what it replaces."""
    calls = []

    def failing(original):
        def method(*arguments, **named):
            calls.append(None)
            if len(calls) == 3:
                raise error
            return original(*arguments, **named)

        return method

    return failing


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_what_nobody_foresaw_in_its_thread_loses_a_camera_for_a_moment(error, monkeypatch, caplog):
    monkeypatch.setattr(SupervisedCamera, "_deliver", once(error)(SupervisedCamera._deliver))
    with mjpeg_server(10**6, fps=30) as server:
        camera = SupervisedCamera("top", CameraSection(uri=f"{server.url}/x", **FAST | {"retry_first_s": 0.5}))
        mailbox = camera.subscribe()
        with closing(camera):
            camera.start()
            lost = wait_for(lambda: (s := camera.status()).state == "lost" and s, "lost")
            assert type(error).__name__ in lost.reason and "hunter2" not in lost.reason
            wait_for(lambda: camera.status().state == "streaming", "streaming again")
            captured = camera.status().captured
            wait_for(lambda: mailbox.get(30) and camera.status().captured > captured + 5, "frames")
    assert "Traceback" in caplog.text


def test_a_thread_that_is_gone_is_seen_and_started_again(monkeypatch):
    class Gone(BaseException):
        pass

    monkeypatch.setattr("threading.excepthook", lambda dead: None)
    monkeypatch.setattr(SupervisedCamera, "_deliver", once(Gone())(SupervisedCamera._deliver))
    with mjpeg_server(10**6, fps=30) as server:
        camera = SupervisedCamera("top", CameraSection(uri=f"{server.url}/x", **FAST))
        camera.subscribe()
        with closing(camera):
            camera.start()
            wait_for(lambda: "thread has died" in (camera.status().reason or ""), "the death")
            assert camera.status().state == "lost" and camera.silent_s() == 0
            camera.look_after()
            wait_for(lambda: camera.status().state == "streaming", "streaming again")


def test_a_recording_whose_thread_is_gone_is_not_begun_again(monkeypatch):
    class Gone(BaseException):
        pass

    monkeypatch.setattr("threading.excepthook", lambda dead: None)
    monkeypatch.setattr(SupervisedCamera, "_deliver", once(Gone())(SupervisedCamera._deliver))
    camera = SupervisedCamera("top", CameraSection(uri="synthetic:?count=9&rate=50", **FAST))
    mailbox = camera.subscribe()
    with closing(camera):
        camera.start()
        wait_for(lambda: camera.status().state == "lost", "the death")
        camera.look_after()
        assert mailbox.get(30).number == 1 and mailbox.get(1) is None
        assert camera.status().state == "lost"


def test_the_age_is_judged_also_where_the_thread_hangs(monkeypatch):
    deliver = SupervisedCamera._deliver

    def hanging(camera, frame, **how):
        deliver(camera, frame, **how)
        if frame.number >= 2:
            camera._stop.wait(60)

    monkeypatch.setattr(SupervisedCamera, "_deliver", hanging)
    with mjpeg_server(10**6, fps=30) as server:
        camera = SupervisedCamera("top", CameraSection(uri=f"{server.url}/x", **FAST))
        with closing(camera):
            camera.start()
            wait_for(lambda: camera.status().state == "stalled", "stalled")
            assert camera.silent_s() > 0.3


def test_a_health_check_that_fails_takes_no_frames_away(monkeypatch, caplog):
    def failing(watch, frame):
        raise cv2.error("of OpenCV")

    monkeypatch.setattr(HealthWatch, "check", failing)
    camera = SupervisedCamera("top", CameraSection(uri="synthetic:?count=5&rate=50"))
    with closing(camera):
        camera.start()
        wait_for(lambda: camera.status().state == "ended", "the end")
    assert camera.status().captured == 5 and "health cannot be checked" in caplog.text
