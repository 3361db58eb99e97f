"""A camera that sends anything but a stream: its state says so, a good one beside it goes on, and it may come back."""

from __future__ import annotations

from contextlib import closing

import pytest
from fakes import mjpeg_server
from hostile.streams import KINDS, SEEN, HostileCamera, right
from patience import wait_for, wait_until

from edgead.sources.reopened_camera import SupervisedCamera
from edgead.sources.settings import CameraSection

FAST = {"retry_first_s": 0.1, "retry_most_s": 0.5, "open_timeout_s": 2, "read_timeout_s": 1, "stalled_after_s": 0.5}
QUICK = {"noise", "half_images"}
ALL = [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in KINDS]


@pytest.fixture(scope="module")
def good():
    with mjpeg_server(10**6, fps=10) as server:
        camera = SupervisedCamera("good", CameraSection(uri=f"{server.url}/line", **FAST))
        with closing(camera):
            camera.start()
            wait_until(lambda: camera.status().captured > 3)
            yield camera


@pytest.mark.parametrize("kind", ALL)
def test_a_stream_that_means_harm(good, kind):
    good_before = good.status().captured
    with closing(HostileCamera(KINDS[kind])) as server:
        camera = SupervisedCamera("bad", CameraSection(uri=server.url, **FAST))
        with closing(camera):
            camera.start()

            def noticed():
                status = camera.status()
                seen = kind in SEEN and status.captured > 3
                return (status.state in ("lost", "stalled") or status.corrupt > 0 or seen) and status

            status = wait_for(noticed, "what is wrong")
            assert status.reason or status.corrupt or kind in SEEN, status
            wait_until(lambda: good.status().captured > good_before + 3 and good.status().state == "streaming")
            server.become(right)
            before = camera.status().captured
            wait_until(lambda: camera.status().state == "streaming" and camera.status().captured > before + 3)
