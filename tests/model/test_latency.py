"""Latency figures against plain arithmetic, and the facts of this machine."""

from __future__ import annotations

import json
import math
import os
from itertools import accumulate

import numpy as np
import pytest
from rich.console import Console

from edgead.profiling.latency import BUCKETS_MS, STAGES, LatencyRecorder, latency_table, machine_facts
from edgead.types import StageTimes


def recorded(samples, **settings):
    recorder = LatencyRecorder(**settings)
    for ms in samples:
        recorder.add("infer", ms)
    return recorder.summary()["infer"]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 99, 100, 101, 999, 1000, 1001, 2500])
def test_percentiles_are_samples_at_or_above_their_rank(n):
    samples = np.random.default_rng(n).gamma(2.0, 3.0, n)
    latency = recorded(samples)
    ordered = sorted(samples)
    for percent, value in ((50, latency.p50_ms), (90, latency.p90_ms), (95, latency.p95_ms), (99, latency.p99_ms)):
        assert value == ordered[math.ceil(round(percent * (n - 1) / 100, 9))]
    assert (latency.n, latency.min_ms, latency.max_ms) == (n, ordered[0], ordered[-1])
    assert latency.mean_ms == pytest.approx(np.mean(samples))
    assert list(accumulate(latency.counts)) == [*(sum(samples <= end_ms) for end_ms in BUCKETS_MS), n]
    if n < 1000:
        assert latency.p99_9_ms is None
    else:
        assert latency.p99_ms <= latency.p99_9_ms <= latency.max_ms


def test_no_outlier_is_clipped():
    latency = recorded([1.0] * 999 + [5000.0])
    assert latency.max_ms == 5000.0 and latency.p99_9_ms == 5000.0
    assert latency.mean_ms == pytest.approx((999 + 5000) / 1000)


def test_a_long_run_keeps_its_extremes_and_does_not_grow():
    latency = recorded([0.5, 900.0, *range(1, 50), *([10.0] * 100)], window=100)
    assert (latency.n, latency.min_ms, latency.max_ms) == (151, 0.5, 900.0)
    assert latency.p50_ms == latency.p99_ms == 10.0  # of the newest 100


def test_fps_counts_intervals_and_not_stamps():
    recorder = LatencyRecorder()
    times = StageTimes(1.0, 2.0, 3.0, 4.0)
    assert recorder.fps is None
    for i in range(11):
        recorder.add_frame(times, total_ms=11.0, finished_ns=i * 100_000_000)
        if i == 0:
            assert recorder.fps is None
    assert recorder.fps == pytest.approx(10.0)


def test_stages_come_in_the_order_of_the_frame_and_absent_ones_are_left_out():
    recorder = LatencyRecorder()
    recorder.add_frame(StageTimes(1.0, 2.0, 3.0, 4.0), total_ms=10.0, finished_ns=0)
    assert list(recorder.summary()) == ["preprocess", "infer", "score", "smooth", "total"]
    recorder.add_frame(StageTimes(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), total_ms=21.0, finished_ns=1)
    assert tuple(recorder.summary()) == STAGES
    assert recorder.summary()["sink"].n == 1


def shown(recorder):
    """The lines of its table in a terminal of 80 columns."""
    with open(os.devnull, "w") as nowhere:
        console = Console(width=80, record=True, file=nowhere)
        console.print(latency_table(recorder.summary(), title="title", caption="caption"))
        return console.export_text().splitlines()


def test_the_table_says_where_n_is_too_small():
    recorder = LatencyRecorder()
    recorder.add("infer", 1.5)
    *table, caption = shown(recorder)
    assert "p99.9" not in "".join(table) and "1.50" in "".join(table)
    assert caption.strip() == "caption; p99.9 takes 1000 frames"


def test_the_table_fits_into_80_columns():
    recorder = LatencyRecorder()
    for _ in range(1000):
        for stage in ("preprocess", "total"):
            recorder.add(stage, 1234.56)
    lines = [line for line in shown(recorder) if "1234.56" in line]
    assert [line.split() for line in lines] == [["preprocess", *["1234.56"] * 8], ["total", *["1234.56"] * 8]]


def test_the_facts_of_this_machine_are_reported():
    facts = json.loads(json.dumps(machine_facts()))
    assert facts["cpu"] and facts["logical_cores"] == os.cpu_count()
    assert facts["python"] and facts["numpy"] == np.__version__ and facts["opencv"] and facts["onnxruntime"]
    assert facts["threads"]["kernels"] >= 1
    assert set(facts["state"]) == {"frequency_mhz", "temperature_c", "throttle_events", "load_1min"}
    stable = {name: value for name, value in facts.items() if name != "state"}
    assert stable == {name: value for name, value in machine_facts().items() if name != "state"}
