"""The search for the best detector within a latency budget of this machine; the test set is never looked at.

Successive halving (Jamieson and Talwalkar, AISTATS 2016): all candidates learn from a quarter of the images, the better
half from a half of them, the better half of those from all; the finalists are built, timed and judged as they ship.
Candidates whose network alone is too slow do not start, and those whose frames are do not come through the first round.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.export.calibration_images import CalibrationImages
from edgead.export.finalists import TIMED, Finalist, frame_ms, judge_finalists, network_ms
from edgead.export.pareto import draw_front, pareto_front
from edgead.export.precision import PrecisionPlan, add_precision
from edgead.export.trial import Outcome, Trial, run_trial, unpack
from edgead.export.tune_plan import Parts, TunePlan, split_images
from edgead.export.tune_space import Candidate, draw_candidates
from edgead.export.workers import Workers, open_workers

from edgead import kernels
from edgead.artifact import Artifact, check_destination, new_artifact, write_manifest
from edgead.dataset import StageProgress, no_progress
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images import load_image

RUNGS = (0.25, 0.5)
LEAST_FINALISTS = 4
# int8 networks take less time than fp32 ones, hardly ever less than a third.
INT8_FACTOR = 3.0
ROUGH_FRAMES = 60


@dataclass(frozen=True, slots=True)
class Tuned:
    """Result of a search: all finalists, the front, and the winner, which is at `destination` now."""

    finalists: list[Finalist]
    front: list[Finalist]
    winner: Finalist
    tried: int
    too_slow: int
    problems: list[str]
    plot: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "winner": self.winner.to_dict(),
            "front": [finalist.to_dict() for finalist in self.front],
            "finalists": [finalist.to_dict() for finalist in self.finalists],
            "tried": self.tried,
            "too_slow": self.too_slow,
            "problems": self.problems,
            "seconds": round(self.seconds, 1),
        }


def tune(data: Path, destination: Path, plan: TunePlan, *, progress: StageProgress = no_progress) -> Tuned:
    """Search, and write the winner to `destination`.

    Candidates are compared by their image AUROC on good images that they did not learn from and defects drawn on those.
    Only `train/good` is read. The winner learns once more from all images but those that it is calibrated on.

    Raises
    ------
    SettingsError, DatasetError, CalibrationError, ArtifactError
        Before anything is written; SettingsError too if no candidate keeps within the budget.
    """
    started = time.perf_counter()
    check_destination(destination)
    parts = split_images(data, plan, progress)
    fast, slow = _fast_enough(draw_candidates(plan.detectors, plan.seed), plan, progress)
    if not fast:
        raise SettingsError(f"{_nothing_keeps(plan)}: each network takes longer")
    cores = kernels.threads()
    count = plan.workers or cores
    threads = max(1, cores // count)
    with open_workers(count, threads, plan.ray) as workers, tempfile.TemporaryDirectory(prefix="edgead-tune-") as work:
        outcomes, problems, late = _halve(fast, parts, plan, (workers, threads), progress)
        finalists = judge_finalists(outcomes, parts, plan, Path(work), progress)
        within = [finalist for finalist in finalists if finalist.latency_ms <= plan.latency_ms]
        if not within:
            fastest = min(finalists, key=lambda finalist: finalist.latency_ms, default=None)
            raise SettingsError(f"{_nothing_keeps(plan)}; the fastest: {fastest or 'none could be built'}")
        winner = max(within, key=lambda finalist: finalist.auroc)
        _finish(winner, parts, plan, destination, progress)
    return Tuned(
        finalists,
        pareto_front(finalists),
        winner,
        len(fast) + slow,
        slow + late,
        problems,
        draw_front(finalists, plan.latency_ms, winner),
        time.perf_counter() - started,
    )


def _nothing_keeps(plan: TunePlan) -> str:
    return f"nothing keeps within {plan.latency_ms:g} ms on this machine"


def _limit_ms(plan: TunePlan) -> float:
    """Time in fp32 beyond which a candidate cannot keep within the budget."""
    return plan.latency_ms * (INT8_FACTOR if "int8" in plan.precisions else 1)


def _fast_enough(candidates: list[Candidate], plan: TunePlan, progress: StageProgress) -> tuple[list[Candidate], int]:
    """Take candidates until there are `plan.trials`; leaves out, and counts, those whose network alone is too slow.

    Presets stay, to compare with.
    """
    times_ms: dict[tuple[str, ...], float] = {}
    taken: list[Candidate] = []
    slow = 0
    for candidate in candidates:
        if len(taken) == plan.trials:
            break
        if candidate.graph not in times_ms and not candidate.name:
            times_ms[candidate.graph] = network_ms(candidate, plan.runtime)
        if candidate.name or times_ms[candidate.graph] <= _limit_ms(plan):
            taken.append(candidate)
            progress("time networks", len(taken), plan.trials)
        else:
            slow += 1
    return taken, slow


def _halve(
    candidates: list[Candidate],
    parts: Parts,
    plan: TunePlan,
    workers: tuple[Workers, int],
    progress: StageProgress,
) -> tuple[list[Outcome], list[str], int]:
    """Let fewer and fewer candidates learn from more and more images; presets always come through.

    Returns
    -------
    (list of Outcome, list of str, int)
        The finalists, what went wrong with others, and how many had frames beyond the budget.
    """
    pool, threads = workers
    problems: list[str] = []
    late = 0
    for number, share in enumerate((*RUNGS, 1.0), 1):
        first, last = number == 1, share == 1.0
        learn = tuple(parts.learn[: max(2, round(share * len(parts.learn)))])
        build = parts.calibration if first or last else None
        trials = [Trial(one, learn, tuple(parts.judge), threads, plan.seed, build) for one in candidates]
        outcomes = []
        for outcome in pool.run(trials):
            outcomes.append(outcome)
            progress(f"round {number} of {len(RUNGS) + 1}", len(outcomes), len(trials))
        problems += [f"{one.candidate}: {one.problem}" for one in outcomes if one.problem]
        outcomes = sorted((one for one in outcomes if not one.problem), key=lambda one: -one.auroc)
        if not outcomes:
            raise SettingsError(f"no candidate could be trained: {problems[0]}")
        if first:
            in_time = _in_time(outcomes, parts, plan, progress)
            late = len(outcomes) - len(in_time)
            outcomes = in_time
        kept = max(LEAST_FINALISTS, len(outcomes) // 2)
        candidates = [one.candidate for i, one in enumerate(outcomes) if i < kept or one.candidate.name]
    return outcomes, problems, late


def _in_time(outcomes: list[Outcome], parts: Parts, plan: TunePlan, progress: StageProgress) -> list[Outcome]:
    """Those whose frames keep within the budget, timed here while no trial runs; presets stay."""
    images = [load_image(path) for path in parts.judge[:TIMED]]
    in_time, fastest_ms = [], math.inf
    for done, outcome in enumerate(outcomes, 1):
        with tempfile.TemporaryDirectory(prefix="edgead-timed-") as folder:
            with Detector.load(unpack(outcome, Path(folder)), runtime=plan.runtime) as detector:
                took_ms = frame_ms(detector, images, ROUGH_FRAMES)
        fastest_ms = min(fastest_ms, took_ms)
        if outcome.candidate.name or took_ms <= _limit_ms(plan):
            in_time.append(outcome)
        progress("time frames", done, len(outcomes))
    if not in_time:
        raise SettingsError(f"{_nothing_keeps(plan)}; the fastest takes {fastest_ms:.2f} ms")
    return in_time


def _finish(winner: Finalist, parts: Parts, plan: TunePlan, destination: Path, progress: StageProgress) -> None:
    """Let the winner learn from the judged images too, and put it in its place."""
    progress("finish the winner", 0, 1)
    learn = (*parts.learn, *parts.judge)
    trial = Trial(winner.candidate, learn, tuple(parts.judge[:1]), kernels.threads(), plan.seed, parts.calibration)
    outcome = run_trial(trial)
    if outcome.problem:
        raise SettingsError(f"{winner.candidate}: {outcome.problem}")
    with tempfile.TemporaryDirectory(prefix="edgead-winner-") as work:
        path = unpack(outcome, Path(work))
        if winner.precision != "fp32":
            images = CalibrationImages(learn, parts.calibration.images, "training data")
            add_precision(path, PrecisionPlan(winner.precision, make_default=True), images)
        facts = {**winner.to_dict(), "budget_ms": plan.latency_ms, "runtime": plan.runtime, "data": parts.name}
        _install(path, destination, facts)
    progress("finish the winner", 1, 1)


def _install(path: Path, destination: Path, facts: dict[str, Any]) -> None:
    """Put a finished artifact in its place, with the facts of the search in its manifest."""
    with new_artifact(destination) as draft:
        shutil.copytree(path, draft, dirs_exist_ok=True)
        manifest = Artifact.load(draft).manifest
        training = {**manifest.training, "data": facts.pop("data"), "tuned": facts}
        write_manifest(draft, manifest.model_copy(update={"training": training}))
