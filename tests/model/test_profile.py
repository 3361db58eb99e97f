"""Profiling of a detector whose times are known."""

from __future__ import annotations

import getpass
import json
import socket

import pytest
from fakes import FakeDetector, numbered

from edgead.errors import SettingsError
from edgead.profiling.profiler import profile


class SlowStart(FakeDetector):
    def predict(self, image_bgr):
        self.work_s = 0.002 if self.seen else 0.05
        return super().predict(image_bgr)


def test_a_profile_measures_every_stage_on_the_images_in_turn():
    detector = SlowStart()
    images = [numbered(i) for i in range(3)] + [numbered(3, size=(240, 320))]
    report = profile(detector, images, warmup=2, n=10)
    assert detector.seen == [0, 0, 1, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert report.cold_start_ms >= 50
    total = report.latency["total"]
    assert total.n == 10 and 2 <= total.min_ms <= total.p50_ms <= total.max_ms and total.p50_ms < 50
    assert report.latency["infer"].p50_ms == 2.0
    assert list(report.latency) == ["preprocess", "infer", "score", "smooth", "total"]
    assert 0 < report.fps <= 1000 / total.min_ms
    assert report.image_sizes == [(120, 160), (240, 320)]


def test_a_report_is_json_and_a_table():
    report = profile(FakeDetector(), [numbered(0)], warmup=0, n=3)
    reported = json.loads(json.dumps(report.to_dict()))
    assert reported["n"] == 3 and reported["latency"]["total"]["p99_9_ms"] is None
    assert reported["machine"]["cpu"]
    table = report.table()
    assert table.row_count == 5 and "3 frames, 160 x 120 px" in table.title


def test_a_row_to_share_says_what_ran_and_nothing_of_its_owner():
    report = profile(FakeDetector(), [numbered(0)], warmup=0, n=3)
    cells = report.shared_row("fake at 8 x 8 px").strip("| ").split(" | ")
    assert len(cells) == 5 and report.machine["cpu"] in cells[0] and "images of 160 x 120 px" in cells[1]
    assert cells[2] == f"{report.latency['total'].p50_ms:.1f}"
    assert socket.gethostname() not in "".join(cells) and getpass.getuser() not in "".join(cells)


def test_grey_images_are_taken_and_nothing_is_refused():
    profile(FakeDetector(), [numbered(0)[:, :, 0]], warmup=0, n=1)
    for images, settings in (([], {}), ([numbered(0)], {"n": 0}), ([numbered(0)], {"warmup": -1})):
        with pytest.raises(SettingsError, match="at least"):
            profile(FakeDetector(), images, **settings)
