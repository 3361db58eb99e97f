"""The search for a detector within a budget: what comes out is real, timed here, and never saw a test image."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="tuning needs the workstation's packages")
from edgead.export.rewrite import ToleranceError  # noqa: E402
from test_cli import edgead  # noqa: E402

from edgead import Detector, kernels  # noqa: E402
from edgead.adapt.training.from_folder import train_from_folder  # noqa: E402
from edgead.adapt.training.good_images import GoodImages, Proportions  # noqa: E402
from edgead.dataset.folders import no_progress  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead_tune import finalists  # noqa: E402
from edgead_tune import run as search
from edgead_tune import space as tune_space
from edgead_tune.finalists import draw_front, judge_finalists, pareto_front  # noqa: E402
from edgead_tune.plan import ImageSplit  # noqa: E402
from edgead_tune.run import FirstRound, TunePlan, halve, tune  # noqa: E402
from edgead_tune.space import Candidate, draw_candidates, nearest_first  # noqa: E402
from edgead_tune.trial import Trial, TrialResult, run_trial  # noqa: E402
from edgead_tune.workers import Team, open_workers

pytestmark = pytest.mark.slow


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
    space = {"backbone": ["efficientnet_lite0"], "image_size": [[96, 96]], "coreset_sampling_ratio": [0.5, 1.0]}
    monkeypatch.setattr(tune_space, "SPACE", {"patchcore": space})
    monkeypatch.setitem(tune_space.ROWS, "patchcore", (50, 200))
    monkeypatch.setattr(tune_space, "PRESETS", ())


def test_front():
    points = [Point(5, 0.9), Point(2, 0.8), Point(7, 0.85), Point(2, 0.7), Point(9, 0.95), Point(6, 0.9)]
    assert pareto_front(points) == [Point(2, 0.8), Point(5, 0.9), Point(9, 0.95)]
    image = ElementTree.fromstring(draw_front(points, 6.0, points[0]))
    circles = image.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 6
    assert sum(circle.get("fill") == "#c0392b" for circle in circles) == 1
    line = image.find("{http://www.w3.org/2000/svg}polyline")
    assert line is not None and len(line.get("points", "").split()) == 3


def test_candidates_are_the_presets_and_then_all_others_once():
    ordered = draw_candidates(["patchcore"], 3)
    assert [candidate.name for candidate in ordered[:3]] == ["patchcore default", "patchcore fast", ""]
    coarse = [(one.settings["backbone"], one.settings["image_size"], one.settings["layers"]) for one in ordered[2:4]]
    assert sorted(coarse) == [
        ("efficientnet_lite0", [224, 224], ["stride16"]),
        ("efficientnet_lite2", [448, 448], ["stride16"]),
    ]
    # 3 x 3 x 7 in the space.
    assert len({str(candidate) for candidate in ordered}) == len(ordered) == 2 + 63
    assert ordered == draw_candidates(["patchcore"], 3) != draw_candidates(["patchcore"], 4)
    with pytest.raises(SettingsError, match="cannot tune draem"):
        draw_candidates(["draem"], 3)


def test_candidates_keep_the_proportions_of_the_images():
    default, fast, *others = draw_candidates(["patchcore", "mvg"], 3)
    wide = default.keeping(Proportions(0.25, ""))
    assert wide.settings["image_size"] == [224, 896] and str(wide) == "patchcore default"
    assert "fill" not in wide.settings and wide.graph != default.graph
    other = others[0].keeping(Proportions(0.25, ""))
    assert f"{other.settings['image_size'][0]}x{other.settings['image_size'][1]}" in str(other)
    assert fast.keeping(Proportions(1.0, "", mixed=True)).settings["fill"] == "reflect"
    gaussian = next(one for one in others if one.detector == "mvg")
    assert gaussian.keeping(Proportions(0.25, "")) is gaussian


def test_neighbours_of_the_leaders_come_first():
    default, fast, *others = draw_candidates(["patchcore", "mvg"], 3)
    ordered = nearest_first(others, [default, fast])
    near = [one for one in others if min(map(one.differences, (default, fast))) <= 1 and one.detector == "patchcore"]
    # The presets with other banks, 2 backbones, 2 layers and 6 sizes for each; two lie between the presets.
    assert ordered[: len(near)] == near and len(near) == 2 * 11 - 2
    assert [one for one in others if one in near] == near
    assert nearest_first(others, []) == others


@dataclass(frozen=True)
class Scripted:
    """Workers that give every candidate the AUROC of a rule, instead of training it."""

    rule: Callable[[Candidate], float]

    def run(self, trials):
        assert all(len(trial.learn) == 10 and trial.build for trial in trials)
        return (TrialResult(trial.candidate, self.rule(trial.candidate), 0.0) for trial in trials)


def test_waves_climb_to_what_few_candidates_have(monkeypatch):
    """One candidate of 63 has the settings that count; none of the first ten has."""
    default, fast = draw_candidates(["patchcore"], 0)[:2]
    wanted = {
        "layers": ["stride16"],
        "backbone": "efficientnet_lite1",
        "image_size": [192, 192],
    }

    def auroc(candidate):
        return 0.6 + 0.1 * sum(candidate.settings[key] == value for key, value in wanted.items())

    slow = [[320, 320], [384, 384]]  # of no preset: presets always take part
    timed = []

    def network_ms(candidate, runtime):
        timed.append(candidate.graph)
        return 30.0 if candidate.settings["image_size"] in slow else 5.0

    monkeypatch.setattr(search, "network_ms", network_ms)
    monkeypatch.setattr(FirstRound, "_frame_ms", lambda self, outcome: 12.0 if outcome.candidate == default else 8.0)
    parts = ImageSplit([Path(f"{i}.png") for i in range(40)], [])
    round_ = FirstRound(Team(Scripted(auroc), 1, parts, TunePlan(10, trials=40), no_progress))
    round_.run(draw_candidates(["patchcore"], 0))
    assert max(map(auroc, draw_candidates(["patchcore"], 0)[:10])) < 0.85
    assert round_.outcomes[0].auroc == pytest.approx(0.9)
    assert {default, fast} <= {one.candidate for one in round_.outcomes}  # to compare with, even if late
    assert not any(one.candidate.settings["image_size"] in slow for one in round_.outcomes)
    assert round_.tried == 40 + round_.too_slow
    for graph in set(timed):
        assert timed.count(graph) <= (search.WAVES if graph[-1] in map(str, slow) else 1)


@pytest.mark.parametrize("trials", range(2, 9))
def test_presets_always_take_part(monkeypatch, trials):
    monkeypatch.setattr(search, "network_ms", lambda candidate, runtime: 5.0)
    monkeypatch.setattr(FirstRound, "_frame_ms", lambda self, outcome: 8.0)
    parts = ImageSplit([Path(f"{i}.png") for i in range(40)], [])
    team = Team(Scripted(lambda candidate: 0.5), 1, parts, TunePlan(10, trials=trials), no_progress)
    round_ = FirstRound(team)
    round_.run(draw_candidates(["patchcore"], 0))
    assert {outcome.candidate.name for outcome in round_.outcomes} >= {"patchcore default", "patchcore fast"}
    assert round_.tried == len(round_.outcomes) == trials


class Deadly:
    """A trial that ends the process that reads it, as does one that takes more memory than there is."""

    def __reduce__(self):
        return os._exit, (1,)


def test_a_process_that_is_ended_ends_the_search_with_the_likely_reason():
    with pytest.raises(SettingsError, match="want of memory"), open_workers(1, 1, None) as workers:
        list(workers.run([Deadly()]))


def test_what_cannot_be_asked_for_is_reported_before_the_search(good_only, tmp_path):
    with pytest.raises(SettingsError, match="unknown precision 'int9'"):
        tune(good_only, tmp_path / "model", TunePlan(10, precisions=("fp32", "int9")))
    plot = tmp_path / "missing" / "front.svg"
    reported = edgead("tune", good_only, "-o", tmp_path / "model", "--latency-ms", 10, "--plot", plot, code=2)
    assert "there is no folder" in reported.stderr and not list(tmp_path.iterdir())


def test_a_network_that_a_slow_minute_kept_out_comes_in_with_the_next_wave(monkeypatch):
    candidates = draw_candidates(["patchcore"], 0)
    slow_minute = []

    def network_ms(candidate, runtime):
        slow_minute.append(candidate.graph)
        return 30.0 if len(slow_minute) <= 3 else 5.0

    monkeypatch.setattr(search, "network_ms", network_ms)
    monkeypatch.setattr(FirstRound, "_frame_ms", lambda self, outcome: 8.0)
    parts = ImageSplit([Path(f"{i}.png") for i in range(40)], [])
    round_ = FirstRound(Team(Scripted(lambda candidate: 0.5), 1, parts, TunePlan(10, trials=16), no_progress))
    round_.run(candidates)
    came_in = set(slow_minute[:3]) & {one.candidate.graph for one in round_.outcomes}
    assert len(came_in) >= 2  # one may be too far from the leaders to have its turn
    assert round_.tried == 16 + round_.too_slow == 16 + 3 - len(came_in)


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


@pytest.mark.slow
def test_a_trial_chooses_the_window_and_the_rows_that_are_open(good_only, small_space):
    paths = tuple(sorted((good_only / "train" / "good").iterdir()))
    open_ = draw_candidates(["patchcore"], 0)[0]
    best = {}
    for rows in (50, 200):
        fixed = [open_.with_settings(memory_bank_size=rows, window=window) for window in (1, 3, 5)]
        outcomes = [run_trial(Trial(one, paths[:12], paths[12:20], kernels.threads(), 0)) for one in fixed]
        assert len({outcome.auroc for outcome in outcomes}) > 1
        assert not any(outcome.others for outcome in outcomes)
        best[rows] = max(outcomes, key=lambda outcome: outcome.auroc)
    outcome = run_trial(Trial(open_, paths[:12], paths[12:20], kernels.threads(), 0, rows=(50, 200)))
    assert [(outcome.candidate, outcome.auroc), *outcome.others] == [
        (one.candidate, one.auroc) for one in sorted(best.values(), key=lambda one: -one.auroc)
    ]


@pytest.mark.slow
def test_what_is_too_slow_takes_part_with_fewer_rows(good_only, small_space, monkeypatch, tmp_path):
    """In the first round with the best bank that is fast enough, as a finalist with the largest beside its own."""
    paths = sorted((good_only / "train" / "good").iterdir())
    parts = ImageSplit(paths[:12], paths[12:16])
    candidate = draw_candidates(["patchcore"], 0)[0]
    monkeypatch.setitem(tune_space.ROWS, "patchcore", (50, 100, 200))
    monkeypatch.setattr(
        finalists, "frame_ms", lambda detector, images: len(detector.artifact.array("memory_bank")) / 10
    )
    monkeypatch.setattr(search, "frame_ms", lambda detector, images, frames: finalists.frame_ms(detector, images))
    plan = TunePlan(12, 0.2, trials=1, workers=1)
    with open_workers(1, 1, None) as workers:
        round_ = FirstRound(Team(workers, 1, parts, plan, no_progress))
        round_.run([candidate])
        (outcome,) = round_.outcomes
    assert outcome.candidate.settings["memory_bank_size"] in (50, 100)
    trial = Trial(candidate, tuple(parts.learn), tuple(parts.judge), 1, 0, parts.calibration, (200,))
    all_rows = run_trial(trial)
    judged, problems = judge_finalists([all_rows], parts, plan, tmp_path, no_progress)
    assert not problems
    assert [one.candidate.settings["memory_bank_size"] for one in judged] == [200, 100]
    assert [one.latency_ms for one in judged] == [20, 10]


@pytest.mark.slow
def test_finalists_are_timed_in_turns_and_a_precision_that_fails_is_reported(
    good_only, small_space, monkeypatch, tmp_path
):
    """A machine that is slow for a while, and an export that refuses int8."""
    paths = sorted((good_only / "train" / "good").iterdir())
    parts = ImageSplit(paths[:12], paths[12:16])
    candidate = draw_candidates(["patchcore"], 0)[0]
    timed = []

    def frame_ms(detector, images):
        timed.append(len(detector.artifact.array("memory_bank")))
        return timed[-1] / 10 * (1 if len(timed) in (5, 6) else 10)  # least: 20 ms with 200 rows, 5 with 50

    def refuse(path, plan, images):
        raise ToleranceError(f"{plan.precision} moves the scores too far", "keep more layers in float")

    monkeypatch.setattr(finalists, "frame_ms", frame_ms)
    monkeypatch.setattr(finalists, "add_precision", refuse)
    outcome = run_trial(Trial(candidate, tuple(parts.learn), tuple(parts.judge), 1, 0, parts.calibration, (200,)))
    plan = TunePlan(12, 0.2, precisions=("fp32", "int8"))
    judged, problems = judge_finalists([outcome], parts, plan, tmp_path, no_progress)
    assert timed == [200, 50] * finalists.SERIES
    assert [(one.precision, one.latency_ms) for one in judged] == [("fp32", 20), ("fp32", 5)]
    assert problems == [f"{outcome.candidate}, int8: int8 moves the scores too far"]


def test_finalists_choose_rows_and_window_again():
    default, _, *others = draw_candidates(["patchcore"], 0)
    asked = []

    class Workers:
        def run(self, trials):
            asked.append([trial.candidate for trial in trials])
            return (TrialResult(trial.candidate, 0.9, 0.0) for trial in trials)

    cut = [one.with_settings(memory_bank_size=1000, window=1) for one in others[:7]]
    parts = ImageSplit([Path()] * 40, [])
    team = Team(Workers(), 1, parts, TunePlan(10), no_progress)
    finalists, problems = halve([TrialResult(one, 0.8, 0.0) for one in [*cut, default]], team)
    assert asked == [[*cut[:4], default], [*others[:4], default]]
    assert [one.candidate for one in finalists] == asked[-1] and not problems


@pytest.mark.slow  # a process with torch and an export for each of two finalists
def test_search_in_processes(good_only, small_space, tmp_path):
    plan = TunePlan(10_000, 0.2, detectors=("patchcore",), trials=2, workers=1)
    tuned = tune(good_only, tmp_path / "model", plan)
    assert tuned.tried == 2 and not tuned.problems
    assert tuned.winner.auroc == max(finalist.auroc for finalist in tuned.finalists) > 0.5
    assert all(0 < finalist.latency_ms < 10_000 for finalist in tuned.finalists)
    with Detector.load(tmp_path / "model") as detector:
        training = detector.manifest.training
        calibration = detector.graph.calibration
    assert training["tuned"]["image_AUROC"] == tuned.winner.auroc
    assert training["settings"]["window"] == tuned.winner.candidate.settings["window"]
    # The winner is what `edgead train` makes of its settings, and the bank that was timed is the one that ships.
    settings = {**tuned.winner.candidate.settings, "seed": 0}
    trained, _ = train_from_folder(GoodImages(good_only, false_reject_rate=0.2), tmp_path / "trained", settings)
    assert trained.graph("fp32").calibration == calibration and calibration.method == "cross_conformal"
    assert training["calibration_images"] == training["training_images"] == 30
    assert training["settings"]["memory_bank_size"] == len(detector.artifact.array("memory_bank"))


@pytest.mark.slow
def test_a_winner_in_int8_has_limits_from_the_images_that_it_learnt(good_only, small_space, tmp_path):
    plan = TunePlan(10_000, 0.2, precisions=("int8",), detectors=("patchcore",), trials=1, workers=1)
    tuned = tune(good_only, tmp_path / "model", plan)
    with Detector.load(tmp_path / "model") as detector:
        manifest, graph = detector.manifest, detector.graph
    assert manifest.precision == tuned.winner.precision == "int8" == manifest.training["tuned"]["precision"]
    assert manifest.graphs["int8"].method["image_source"] == "training data"
    assert graph.calibration.method == "cross_conformal" and len(graph.calibration.scores) == 30


@pytest.mark.slow
def test_a_budget_that_nothing_keeps(good_only, small_space, tmp_path):
    with pytest.raises(SettingsError, match="nothing keeps within 0.001 ms"):
        tune(good_only, tmp_path / "none", TunePlan(1e-3, 0.2, detectors=("patchcore",), trials=1, workers=1))
    assert not (tmp_path / "none").exists()


@pytest.mark.slow  # a cluster starts in half a minute
def test_search_on_two_nodes(good_only, small_space, tmp_path):
    pytest.importorskip("ray", reason="RAY NOT TESTED: pip install './plugins/edgead-tune[ray]'")
    code = f"""
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from edgead_tune import space, workers
from edgead_tune.run import TunePlan, tune
space.SPACE, space.PRESETS = {tune_space.SPACE!r}, ()
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
    assert "nodes [2, 2, 2, 2] finalists 2" in done.stdout  # two waves and two more rounds
    assert Detector.load(tmp_path / "model").manifest.training["tuned"]["precision"] == "fp32"
