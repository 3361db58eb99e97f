"""The search for a detector within a budget: what comes out is real, timed here, and never saw a test image."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="tuning needs the workstation's packages")
from edgead.export import tune_space  # noqa: E402
from edgead.export.pareto import draw_front, pareto_front  # noqa: E402
from edgead.export.tune import TunePlan, tune  # noqa: E402
from edgead.export.tune_space import draw_candidates  # noqa: E402
from edgead.export.workers import open_workers  # noqa: E402

from edgead import Detector  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402


@dataclass(frozen=True)
class Point:
    latency_ms: float
    auroc: float


@pytest.fixture(scope="module")
def good_only(line_data, tmp_path_factory) -> Path:
    """30 good images and no test set, which a search could not look at even if it would."""
    folder = tmp_path_factory.mktemp("tune") / "data"
    (folder / "train" / "good").mkdir(parents=True)
    for path in sorted((line_data / "train" / "good").iterdir())[:30]:
        shutil.copy(path, folder / "train" / "good")
    return folder


@pytest.fixture
def small_space(monkeypatch):
    sizes = {"backbone": ["efficientnet_lite0"], "image_size": [[96, 96]], "memory_bank_size": [50, 200]}
    monkeypatch.setattr(tune_space, "SPACE", {"patchcore": {**sizes, "window": [3, 5]}})
    monkeypatch.setattr(tune_space, "PRESETS", ())


def test_front():
    points = [Point(5, 0.9), Point(2, 0.8), Point(7, 0.85), Point(2, 0.7), Point(9, 0.95), Point(6, 0.9)]
    assert pareto_front(points) == [Point(2, 0.8), Point(5, 0.9), Point(9, 0.95)]
    picture = ElementTree.fromstring(draw_front(points, 6.0, points[0]))
    circles = picture.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 6
    assert sum(circle.get("fill") == "#c0392b" for circle in circles) == 1
    line = picture.find("{http://www.w3.org/2000/svg}polyline")
    assert line is not None and len(line.get("points", "").split()) == 3


def test_candidates_near_the_presets_and_elsewhere_take_turns():
    ordered = draw_candidates(["patchcore"], 3)
    assert [candidate.name for candidate in ordered[:2]] == ["patchcore default", "patchcore fast"]
    # 1,215 in the space, of which two are the presets themselves, and 26 differ from one of them in one setting.
    assert len({str(candidate) for candidate in ordered}) == len(ordered) == 1215
    near, far = ordered[2:54:2], ordered[3:54:2]
    assert not set(map(str, near)) & set(map(str, far))
    default = {"backbone": "efficientnet_lite2", "layers": ["stride8", "stride16"], "image_size": [320, 320]}
    default |= {"memory_bank_size": 10000, "window": 5, "global_weight": 0.0}
    fast = {**default, "backbone": "efficientnet_lite0", "image_size": [224, 224]}
    for one in near:
        assert 1 in [sum(one.settings[key] != preset[key] for key in preset) for preset in (default, fast)]
    for one in far:
        assert min(sum(one.settings[key] != preset[key] for key in preset) for preset in (default, fast)) > 1
    assert ordered == draw_candidates(["patchcore"], 3) != draw_candidates(["patchcore"], 4)
    with pytest.raises(SettingsError, match="cannot tune draem"):
        draw_candidates(["draem"], 3)


def test_a_stop_does_not_wait_for_the_trial_that_runs():
    others = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt):
        with open_workers(1, 1, None) as workers:
            trials = [workers._executor.submit(time.sleep, 600) for _ in range(3)]
            while not trials[0].running():
                time.sleep(0.05)
            stopped = time.monotonic()
            raise KeyboardInterrupt
    assert time.monotonic() - stopped < 30
    assert not set(multiprocessing.active_children()) - others


@pytest.mark.slow  # a process with torch and an export for each of two finalists
def test_search_in_processes(good_only, small_space, tmp_path):
    plan = TunePlan(10_000, 0.2, detectors=("patchcore",), trials=2, workers=1)
    tuned = tune(good_only, tmp_path / "model", plan)
    assert tuned.tried == 2 and not tuned.problems
    assert tuned.winner.auroc == max(finalist.auroc for finalist in tuned.finalists) > 0.5
    assert all(0 < finalist.latency_ms < 10_000 for finalist in tuned.finalists)
    with Detector.load(tmp_path / "model") as detector:
        training = detector.manifest.training
        assert len(detector.graph.calibration.scores) == 6
    assert training["tuned"]["image_AUROC"] == tuned.winner.auroc
    assert training["settings"]["window"] == tuned.winner.candidate.settings["window"]


def test_a_budget_that_nothing_keeps(good_only, small_space, tmp_path):
    with pytest.raises(SettingsError, match="nothing keeps within 0.001 ms"):
        tune(good_only, tmp_path / "none", TunePlan(1e-3, 0.2, detectors=("patchcore",), trials=1, workers=1))
    assert not (tmp_path / "none").exists()


@pytest.mark.slow  # a cluster starts in half a minute
def test_search_on_two_nodes(good_only, small_space, tmp_path):
    pytest.importorskip("ray", reason="RAY NOT TESTED: pip install 'edgead[ray]'")
    code = f"""
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from edgead.export import tune_space, workers
from edgead.export.tune import TunePlan, tune
tune_space.SPACE, tune_space.PRESETS = {tune_space.SPACE!r}, ()
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1, "include_dashboard": False}})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
seen = []
run = workers.RayCluster.run
def counted(self, trials):
    seen.append(sum(node["Alive"] for node in ray.nodes()))
    yield from run(self, trials)
workers.RayCluster.run = counted
plan = TunePlan(10_000, 0.2, detectors=("patchcore",), trials=2, workers=2, ray=cluster.address)
tuned = tune(Path({str(good_only)!r}), Path({str(tmp_path / "model")!r}), plan)
print("nodes", seen, "finalists", len(tuned.finalists))
cluster.shutdown()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "nodes [2, 2, 2] finalists 2" in done.stdout
    assert Detector.load(tmp_path / "model").manifest.training["tuned"]["precision"] == "fp32"
