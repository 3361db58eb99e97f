"""What others used while something was measured."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from edgead.profiling import contention as other_load
from edgead.profiling.contention import OtherLoad, OtherUse, describe_use


def test_the_work_of_another_process_is_reported():
    load = OtherLoad()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 1: pass"], check=True)
    assert load.use().processes > 0.4


def test_our_own_work_is_not_reported_and_what_the_hypervisor_took_is_kept_apart(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 900 5 1 2 40 0 0\ncpu0 1 1 1\n")
    monkeypatch.setattr(other_load, "_STAT", stat)
    monkeypatch.setattr(other_load.time, "perf_counter", iter((10.0, 12.0)).__next__)
    own = iter((SimpleNamespace(user=3.0, system=1.0), SimpleNamespace(user=3.5, system=1.25)))
    monkeypatch.setattr(other_load.os, "times", own.__next__)
    load = OtherLoad()
    ticks = 2 * other_load.os.sysconf("SC_CLK_TCK")
    stat.write_text(f"cpu  {100 + ticks} 0 50 900 5 1 2 {40 + ticks // 4} 0 0\n")
    use = load.use()
    assert (use.processes, use.hypervisor, use.cores) == pytest.approx(((2 - 0.75) / 2, 0.25, 0.875))


def test_only_what_is_worth_it_is_reported_and_nothing_where_the_system_does_not_tell(tmp_path, monkeypatch):
    assert describe_use(OtherUse(0.004, 0.0)) == describe_use(None) == ""
    assert describe_use(OtherUse(0.5, 0.031)) == "; other processes used 0.50 cores; the hypervisor took 0.03 cores"
    monkeypatch.setattr(other_load, "_STAT", tmp_path / "nowhere")
    assert OtherLoad().use() is None
