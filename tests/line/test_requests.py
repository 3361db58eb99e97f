"""Images that somebody waits for the verdict of: each gets its own verdict, and what was not taken says so."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue

import cv2
import pytest
from fakes import make_verdict, numbered, read_number
from patience import MAX_S, wait_until

from edgead.errors import NotNowError, NoVerdictInTimeError, SettingsError
from edgead.images.files import ImageError
from edgead.line.daemon.frame_choice import ImageRequests
from edgead.sources import SourceError, open_source
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.sources.settings import CameraSection
from edgead.types import NO_PART, Part


def encoded(number):
    return cv2.imencode(".png", numbered(number))[1].tobytes()


@pytest.fixture
def camera():
    camera = SupervisedCamera("desk", CameraSection(uri="request:", max_megapixels=0.1))
    with closing(camera):
        yield camera


@pytest.fixture
def line(camera):
    """A camera and two pipelines that judge, by the number of the image, whatever it gives."""
    both = [ImageRequests("left"), ImageRequests("right")]
    for requests in both:
        mailbox = camera.subscribe()
        threading.Thread(target=judge_all, args=(mailbox, requests), daemon=True).start()
    camera.start()
    wait_until(lambda: camera.status().state == "streaming")
    return both


def judge_all(mailbox, requests):
    while (frame := mailbox.get(MAX_S)) is not None:
        number = read_number(frame.image)
        requests.answer(frame, make_verdict(number / 100) if number else SettingsError("none is black"))


def test_each_image_gets_its_own_verdict_whoever_sends_at_the_same_time(camera, line):
    def ask(number):
        asked = line[number % 2]
        return asked.ask(lambda: camera.offer(encoded(number), Part(str(number))), MAX_S)

    with ThreadPoolExecutor(8) as senders:
        found = list(senders.map(ask, range(1, 41)))
    for number, (frame, verdict) in enumerate(found, 1):
        assert verdict.image_score == number / 100 and frame.part == Part(str(number))
    assert len({frame.id for frame, _ in found}) == 40 and camera.status().captured == 40


def test_why_an_image_has_no_verdict_reaches_who_sent_it(camera, line):
    with pytest.raises(SettingsError, match="none is black"):
        line[0].ask(lambda: camera.offer(encoded(0), NO_PART), MAX_S)
    for data, reason in ((b"", "the file is empty"), (encoded(1)[:-9], "truncated"), (b"GIF89a", "not an image")):
        with pytest.raises(ImageError, match=reason):
            line[0].ask(lambda data=data: camera.offer(data, NO_PART), MAX_S)
    huge = cv2.imencode(".png", numbered(1, size=(1000, 1600)))[1].tobytes()
    with pytest.raises(ImageError, match="at most 0.1 are taken"):
        line[0].ask(lambda: camera.offer(huge, NO_PART), MAX_S)


def test_a_busy_pipeline_has_not_taken_the_image_and_a_late_one_has(camera):
    requests, offered = ImageRequests("left"), SimpleQueue()
    camera.start()
    wait_until(lambda: camera.status().state == "streaming")

    def offer():
        offered.put(frame := camera.offer(encoded(1), NO_PART))
        return frame

    with ThreadPoolExecutor(1) as sender:
        first = sender.submit(requests.ask, offer, 0.3)
        offered.get()
        with pytest.raises(NotNowError, match="left: is busy"):
            requests.ask(offer, 0)
        with pytest.raises(NoVerdictInTimeError, match=r"was taken as [0-9a-f-]{36}"):
            first.result()
    assert offered.empty()
    assert not requests.answer(camera.latest() or None, make_verdict(0.1))  # nobody waits any more


def test_other_cameras_take_no_images():
    camera = SupervisedCamera("top", CameraSection(uri="synthetic:"))
    with pytest.raises(SettingsError, match="camera top takes no images: that needs a camera with `uri: request:`"):
        camera.offer(encoded(1), NO_PART)
    for uri in ("request:x", "request:?a=1"):
        with pytest.raises(SourceError):
            open_source(uri)
