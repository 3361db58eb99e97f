"""Priority and cores: they reach whatever judges, and nothing else; what is refused is said."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from daemons import make_site, started
from fakes import FakeDetector, write_video
from patience import wait_until

from edgead import kernels
from edgead.errors import SettingsError
from edgead.line.site.schema import PipelineSection
from edgead.process.real_time import KERNEL_THREADS, Scheduling, threads_named
from edgead.stream import run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows and schedules threads")


@pytest.fixture
def kernel_threads():
    """Kernel ids of the kernels' threads, at least one."""
    if "cpu" not in kernels.backends():
        pytest.skip("KERNELS' THREADS NOT TESTED: there is no native code here")
    before = kernels.threads()
    kernels.set_threads(2)
    rows = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
    kernels.NearestPatches(rows).search(rows[:500])
    wait_until(lambda: len(threads_named(KERNEL_THREADS)) == 1)  # those of before end a little after they are joined
    yield threads_named(KERNEL_THREADS)
    kernels.set_threads(before)


def test_of_two_pipelines_kernels_have_the_higher_priority_and_the_cores_of_both():
    usual, first, second = Scheduling(), Scheduling(20, (1,)), Scheduling(50, (0, 1))
    assert first.beside(second) == second.beside(first) == Scheduling(50, (0, 1))
    assert first.beside(usual) == Scheduling(20) and usual.beside(usual) == usual
    assert not usual and first


def test_the_callers_and_the_kernels_threads_are_scheduled_and_then_as_before(fifo_allowed, kernel_threads):
    core = min(os.sched_getaffinity(0))
    threads = (0, *kernel_threads)
    assert len(threads) > 1
    before = os.sched_getaffinity(0)
    with Scheduling(3, (core,)).taken():
        for thread in threads:
            assert os.sched_getscheduler(thread) == os.SCHED_FIFO
            assert os.sched_getparam(thread).sched_priority == 3
            assert os.sched_getaffinity(thread) == {core}
    assert all(os.sched_getaffinity(thread) == before for thread in threads)
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}


def test_a_stream_judges_by_it_and_its_sinks_are_as_ever(fifo_allowed, tmp_path):
    policies = []

    class Detector(FakeDetector):
        def predict(self, image):
            policies.append(os.sched_getscheduler(0))
            return super().predict(image)

    summary = run(str(write_video(tmp_path / "line.avi", 2)), Detector(), [], scheduling=Scheduling(2))
    assert policies == [os.SCHED_FIFO] * 2 and summary.fault is None
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_what_the_system_refuses_ends_a_stream_before_it_judges(tmp_path, monkeypatch):
    def refused(*given):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    detector = FakeDetector()
    with pytest.raises(SettingsError, match="SCHED_FIFO is not permitted: run as root, or allow it by `ulimit -r`"):
        run(str(write_video(tmp_path / "line.avi", 2)), detector, [], scheduling=Scheduling(2))
    assert not detector.seen


def test_the_site_file_bounds_them(tmp_path):
    def section(**realtime):
        return PipelineSection.model_validate({"camera": "top", "model": tmp_path, "realtime": realtime})

    assert section(priority=50, cores=[0, 1]).realtime.scheduling == Scheduling(50, (0, 1))
    assert not section().realtime.scheduling
    for wrong in ({"priority": 0}, {"priority": 100}, {"cores": [-1]}, {"nice": 3}):
        with pytest.raises(ValueError):
            section(**wrong)


@pytest.mark.slow
def test_in_the_daemon_what_judges_is_urgent_and_nothing_else(fifo_allowed, trained_model, tmp_path):
    site = make_site(trained_model)
    site["pipelines"]["a"] |= {"threads": 2, "realtime": {"priority": 3}}
    with started(tmp_path, site, environment={**os.environ, "EDGEAD_THREADS": "2"}) as daemon:
        daemon.wait_state("running")
        daemon.wait_judged(2)
        assert daemon.pipeline()["realtime_problem"] is None
        tasks = [int(task.name) for task in Path(f"/proc/{daemon.process.pid}/task").iterdir()]
        urgent = [task for task in tasks if os.sched_getscheduler(task) == os.SCHED_FIFO]
        names = [(Path(f"/proc/{daemon.process.pid}/task/{task}/comm")).read_text().strip() for task in urgent]
        assert names.count(KERNEL_THREADS) == 1
        assert len([name for name in names if name.startswith("edgead-net")]) == 1
        others = [name for name in names if not name.startswith("edgead")]
        # The pipeline's own, its camera's, and one that ONNX Runtime starts.
        assert len(others) <= 3 < len(tasks) / 4
        assert os.sched_getscheduler(daemon.process.pid) == os.SCHED_OTHER
        # The camera's, but for the moments in which it checks its health.
        wait_until(lambda: [os.sched_getparam(task).sched_priority for task in tasks].count(2) == 1)
        daemon.stop()


@pytest.mark.slow
def test_a_daemon_that_may_not_goes_on_and_says_so(trained_model, tmp_path):
    site = make_site(trained_model)
    site["pipelines"]["a"]["realtime"] = {"priority": 1, "cores": [4000]}
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")
        daemon.wait_judged(2)
        assert "affinity 4000: this process may use" in daemon.pipeline()["realtime_problem"]
        assert daemon.said("a: realtime: affinity 4000")
        assert 'edgead_realtime_refused{pipeline="a"} 1.0' in daemon.api.get("/metrics").text
        daemon.stop()


def test_the_unit_file_allows_it_and_what_engines_need():
    unit = (Path(__file__).parents[2] / "deploy/edgead.service").read_text().splitlines()
    filters = [line.partition("=")[2] for line in unit if line.startswith("SystemCallFilter=")]
    allowed = set(filters[-1].split())  # the last word counts
    assert filters[1].startswith("~") and allowed == {"sched_setaffinity", "sched_setscheduler"}
    assert "LimitRTPRIO=99" in unit and "RestrictRealtime=yes" not in unit
