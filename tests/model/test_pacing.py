"""Frames that arrive by a clock: their latency counts from the arrival, whatever the detector is doing."""

from __future__ import annotations

import csv
import os
import time

import numpy as np
import pytest
from fakes import FakeDetector, numbered

from edgead.errors import SettingsError
from edgead.process.real_time import set_affinity, set_fifo
from edgead.profiling.profiler import Pace, newest_arrivals, profile


def test_arrivals_keep_their_places_with_and_without_jitter():
    assert Pace(rate_hz=10, duration_s=0.5).arrivals_s() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    pace = Pace(rate_hz=50, jitter_ms=3, duration_s=200)
    off = pace.arrivals_s() - np.arange(10_000) / 50
    assert off.std() == pytest.approx(3e-3, rel=0.05) and abs(off.mean()) < 2e-4
    assert (np.diff(pace.arrivals_s()) >= 0).all() and (pace.arrivals_s() == pace.arrivals_s()).all()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"rate_hz": 0}, "rate"),
        ({"rate_hz": 10, "jitter_ms": -1}, "jitter"),
        ({"rate_hz": 1, "duration_s": 0.5}, "longer"),
    ],
)
def test_a_pace_that_is_none(settings, what):
    with pytest.raises(SettingsError, match=what):
        Pace(**settings)


def test_a_taker_who_is_fast_gets_every_frame_and_none_before_its_time():
    arrivals = Pace(rate_hz=200, duration_s=0.2).arrivals_s()
    begin_ns = time.perf_counter_ns()
    numbers = []
    for arrival in newest_arrivals(arrivals):
        numbers.append(arrival.number)
        assert time.perf_counter_ns() >= arrival.at_ns >= begin_ns + arrivals[arrival.number] * 1e9
    assert numbers == sorted(set(numbers)) and numbers[-1] == 39
    assert len(numbers) > 10  # all of them, where the machine has time for it


def test_a_stall_is_in_the_latency_of_the_frames_that_waited():
    """Coordinated omission: a clock that waited for the detector would show one slow frame and no more."""
    detector = FakeDetector(work_s=0.0)
    slow = iter([0.001] * 30 + [0.2] + [0.001] * 200)
    detector_predict = detector.predict

    def predict(image):
        detector.work_s = next(slow)
        return detector_predict(image)

    detector.predict = predict
    report = profile(detector, [numbered(0)], warmup=9, pace=Pace(rate_hz=100, duration_s=1.0))
    arrivals = report.arrivals
    assert arrivals.arrived == 100 and arrivals.deadline_ms == 10
    assert arrivals.dropped >= 15  # 200 ms without a taker, and the newest is given
    assert report.n == 100 - arrivals.dropped
    assert arrivals.late >= 1
    assert report.latency["total"].max_ms >= 200
    numbers = [sample.number for sample in report.samples]
    assert numbers == sorted(set(numbers)) and numbers[-1] == 99


def test_a_detector_that_is_too_slow_for_the_line_says_so():
    report = profile(FakeDetector(work_s=0.03), [numbered(0)], warmup=0, pace=Pace(rate_hz=100, duration_s=0.6))
    assert report.arrivals.dropped > 30
    assert report.arrivals.late == report.n
    assert "not judged within 10 ms" in report.summary()


def test_samples_are_written_as_they_were_measured(tmp_path):
    report = profile(FakeDetector(), [numbered(0)], warmup=0, pace=Pace(rate_hz=200, duration_s=0.1))
    report.write_samples(tmp_path / "samples.csv")
    rows = list(csv.DictReader((tmp_path / "samples.csv").read_text().splitlines()))
    assert [int(row["number"]) for row in rows] == [sample.number for sample in report.samples]
    assert [float(row["total_ms"]) for row in rows] == [sample.total_ms for sample in report.samples]
    assert float(rows[0]["age_ms"]) == report.samples[0].times.age_ms


def test_cores_that_are_not_there_are_refused():
    allowed = os.sched_getaffinity(0)
    with pytest.raises(SettingsError, match="affinity 4096: this process may use"):
        set_affinity([4096])
    set_affinity(sorted(allowed))
    assert os.sched_getaffinity(0) == allowed
    with pytest.raises(SettingsError, match="priorities from 1 to 99, found 0"):
        set_fifo(0)
