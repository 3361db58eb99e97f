"""Sessions: what a head remembers belongs to one stream; and one detector in many threads is right."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from daemons import START, make_site, started
from fakes import mjpeg_server

from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.line.daemon.active_model import ActiveModel
from edgead.line.daemon.thresholds import KeptThresholds
from edgead.line.site.schema import CameraSection, Site
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.stream import run
from edgead.types import Frame

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).parents[1] / "plugin"
WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)
THREADS, IMAGES = 8, 80
FRAMES = 3  # that the head remembers
RUNTIMES = [name for name in ("onnxruntime", "openvino") if find_spec(name)]


@pytest.fixture
def video_model(line_data, once, monkeypatch):
    """A model with a recurrent head: no score before the third frame."""
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    monkeypatch.syspath_prepend(str(PLUGIN))
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages

    good = GoodImages(line_data, false_reject_rate=0.1)
    return once("dummy_video", lambda path: train_from_folder(good, path, {}, detector="dummy_video"))


def frame(number: int, *, light: int = 0, connection: int = 1, source: str = "top") -> Frame:
    return Frame(np.full((90, 70, 3), light, np.uint8), number, 0, WHEN, source, connection=connection)


@pytest.fixture
def detector(video_model):
    with Detector.load(video_model) as opened:
        yield opened


def test_it_warms_up_and_then_remembers_three_frames(detector):
    session = detector.session()
    lights = [0, 60, 120, 180, 240]
    verdicts = [session.step(frame(number, light=light)) for number, light in enumerate(lights)]
    assert verdicts[:2] == [None, None]
    alone = [detector.predict(frame(0, light=light).image).image_score for light in lights]
    for number in (2, 3, 4):
        assert verdicts[number].image_score == pytest.approx(np.mean(alone[number - 2 : number + 1]), rel=1e-6)


@pytest.mark.parametrize("new", [frame(4), frame(2), frame(0), frame(3, connection=2), frame(3, source="side")])
def test_a_gap_a_reconnect_and_another_source_begin_a_new_stream(detector, new):
    session = detector.session()
    assert [session.step(frame(number)) is None for number in range(3)] == [True, True, False]
    then = [replace(new, number=new.number + more) for more in range(3)]
    assert [session.step(one) is None for one in then] == [True, True, False]


def test_the_next_frame_does_not_and_reset_does(detector):
    session = detector.session()
    assert [session.step(frame(number)) is None for number in range(4)] == [True, True, False, False]
    session.reset()
    assert session.step(frame(4)) is None


def test_a_frame_that_cannot_be_judged_is_a_gap(detector):
    session = detector.session()
    for number in range(3):
        session.step(frame(number))
    with pytest.raises(ValueError, match="empty|image"):
        session.step(replace(frame(3), image=np.zeros((0, 0, 3), np.uint8)))
    assert session.step(frame(4)) is None


def test_sessions_of_one_detector_do_not_mix(detector):
    one, other = detector.session(), detector.session()
    for number in range(3):
        bright, dark = one.step(frame(number, light=250)), other.step(frame(number, light=0))
    expected = [detector.predict(frame(0, light=light).image).image_score for light in (250, 0)]
    assert [bright.image_score, dark.image_score] == pytest.approx(expected, rel=1e-6)


def test_a_frame_has_planes_and_a_model_says_which_it_lacks(detector, monkeypatch):
    depth = np.ones((90, 70), np.float32)
    taken = replace(frame(0), others={"depth": depth})
    assert taken.planes == {"image": taken.image, "depth": depth}
    (only,) = detector.manifest.inputs
    inputs = (only.model_copy(update={"plane": "depth"}),)
    detector.manifest = detector.manifest.model_copy(update={"inputs": inputs})
    with pytest.raises(SettingsError, match="looks at the plane 'depth', the frame has image"):
        detector.session().step(frame(0))


def test_a_stream_gives_no_verdict_until_it_is_warm(detector, line_data, tmp_path):
    summary = run(str(line_data / "test" / "good"), detector, [])
    assert (summary.frames, summary.warming_up, summary.captured) == (6, 2, 8)


def test_another_model_begins_a_new_stream(video_model, tmp_path):
    cameras = {"c": {"uri": "synthetic:"}}
    site = Site.model_validate({"cameras": cameras, "pipelines": {"a": {"camera": "c", "model": video_model}}})
    slot = ActiveModel("a", site.pipelines["a"], KeptThresholds(tmp_path / "thresholds.json"), threads=1)
    slot.load()
    assert [slot.step(frame(number)) is None for number in range(4)] == [True, True, False, False]
    slot.swap(video_model)
    assert [slot.step(frame(number)) is None for number in range(4, 7)] == [True, True, False]
    slot.roll_back()
    assert slot.step(frame(7)) is None
    slot.close()


def test_a_daemon_judges_with_a_head_that_remembers(video_model, tmp_path):
    site = make_site(video_model, cameras={"conveyor": {"uri": "synthetic:?count=9&seed=1"}})
    code = f"import sys; sys.path.insert(0, {str(PLUGIN)!r})\n{START}"
    with started(tmp_path, site, code=code) as daemon:
        reported = daemon.wait_state("stopped", reason="has ended")
        assert (reported["taken"], reported["judged"], reported["skipped"]) == (9, 7, 0)
        daemon.stop(within_s=5)
    assert [record["number"] for record in daemon.records()] == list(range(2, 9))


@pytest.mark.slow
def test_in_a_running_daemon_a_reconnect_and_an_exchange_begin_a_new_stream(video_model, tmp_path):
    first, second = (Path(shutil.copytree(video_model, tmp_path / name)) for name in ("first", "second"))
    code = f"import sys; sys.path.insert(0, {str(PLUGIN)!r})\n{START}"
    with mjpeg_server(10**6, fps=10) as server:
        camera = {"uri": f"{server.url}/stream", "retry_first_s": 0.2, "retry_most_s": 0.5}
        with started(tmp_path, make_site(first, cameras={"conveyor": camera}), code=code) as daemon:

            def check(event, without_verdict):
                before = daemon.wait_judged(3)
                event()
                after = daemon.wait_judged(20)
                # On a busy machine frames are dropped, and each gap begins a stream as well.
                assert after["dropped"] > before["dropped"] or (
                    after["warming_up"] - before["warming_up"] == without_verdict
                )

            def reconnect():
                server.away = True
                daemon.wait_state("fault", reason="is lost")
                server.away = False

            def exchange():
                answer = daemon.api.post("/api/pipelines/a/model", json={"model": second.name, "by": "kim"})
                assert answer.status_code == 200, answer.text

            check(lambda: None, 0)
            check(reconnect, FRAMES - 1)
            check(exchange, FRAMES - 1)
            daemon.stop(within_s=5)


def test_a_camera_counts_its_connections(tmp_path):
    with mjpeg_server(4, fps=20) as server:
        section = CameraSection.model_validate({"uri": f"{server.url}/video", "retry_first_s": 0.1})
        camera = SupervisedCamera("top", section)
        mailbox = camera.subscribe()
        camera.start()
        seen: set[int] = set()
        numbers = []
        while 2 not in seen:
            taken = mailbox.get(30)
            seen.add(taken.connection)
            numbers.append(taken.number)
        camera.close()
    assert seen == {1, 2} and numbers == sorted(numbers)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_many_threads_get_the_scores_of_one(trained_model, line_data, runtime):
    files = sorted((line_data / "train" / "good").iterdir())[:20]
    images = [load_image(file) for file in files] * (IMAGES // len(files))
    with Detector.load(trained_model, runtime=runtime, threads=1) as detector:
        expected = [detector.predict(image) for image in images[: len(files)]] * (IMAGES // len(files))
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(detector.predict, images))
    assert [one.image_score for one in found] == [one.image_score for one in expected]
    assert all(np.array_equal(a.anomaly_map, b.anomaly_map) for a, b in zip(found, expected, strict=True))
