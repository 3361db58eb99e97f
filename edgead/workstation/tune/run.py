"""The search for the best detector within a latency budget of this machine; the test set is never looked at.

Successive halving (Jamieson and Talwalkar, AISTATS 2016): all candidates learn from a quarter of the images, the better
half from a half of them, the better half of those from all; the finalists are built, timed and judged as they ship.
The first round comes in waves, see `edgead.workstation.tune.first_round`.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead import kernels
from edgead.artifact.folder import Artifact, check_destination, new_artifact, write_manifest
from edgead.artifact.training_hashes import keep_learnt
from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.export.calibration_images import CalibrationImages
from edgead.export.precision import PrecisionPlan, add_precision
from edgead.export.rewrite import ToleranceError
from edgead.runtime import checked_runtime
from edgead.workstation.training.proportions import find_proportions
from edgead.workstation.tune.finalists import Finalist, judge_finalists
from edgead.workstation.tune.first_round import FirstRound
from edgead.workstation.tune.pareto import draw_front, pareto_front
from edgead.workstation.tune.plan import Parts, TunePlan, split_images
from edgead.workstation.tune.space import draw_candidates
from edgead.workstation.tune.trial import Outcome, Trial, run_trial, unpack
from edgead.workstation.tune.trial_runner import Team
from edgead.workstation.tune.workers import open_workers

LATER_SHARES = (0.5, 1.0)
MIN_FINALISTS = 4


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
    groups: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "winner": self.winner.to_dict(),
            "front": [finalist.to_dict() for finalist in self.front],
            "finalists": [finalist.to_dict() for finalist in self.finalists],
            "tried": self.tried,
            "too_slow": self.too_slow,
            "problems": self.problems,
            "seconds": round(self.seconds, 1),
            "groups": self.groups,
        }


def tune(data: Path, destination: Path, plan: TunePlan, *, progress: StageProgress = no_progress) -> Tuned:
    """Search, and write the winner to `destination`.

    Candidates are compared by their image AUROC on good images that they did not learn from and defects drawn on those.
    Only good images are read. The winner learns once more from all images but those that it is calibrated on.

    Raises
    ------
    SettingsError, DatasetError, CalibrationError, ArtifactError
        Before anything is written; SettingsError too if no candidate keeps within the budget.
    """
    started = time.perf_counter()
    check_destination(destination)
    drawn = draw_candidates(plan.detectors, plan.seed)
    checked_runtime(plan.runtime)
    parts = split_images(data, plan, progress)
    proportions = find_proportions(parts.learn)
    candidates = [candidate.keeping(proportions) for candidate in drawn]
    cores = kernels.threads()
    count = plan.workers or cores
    threads = max(1, cores // count)
    with open_workers(count, threads, plan.ray) as workers, tempfile.TemporaryDirectory(prefix="edgead-tune-") as work:
        team = Team(workers, threads, parts, plan, progress)
        first = FirstRound(team)
        first.run(candidates)
        outcomes, problems = halve(first.outcomes, team)
        finalists, refused = judge_finalists(outcomes, parts, plan, Path(work), progress)
        within = [finalist for finalist in finalists if finalist.latency_ms <= plan.latency_ms]
        if not within:
            fastest = min(finalists, key=lambda finalist: finalist.latency_ms, default=None)
            slowness = f"the fastest: {fastest or 'none could be built'}"
            raise SettingsError(f"nothing keeps within {plan.latency_ms:g} ms on this machine; {slowness}")
        for winner in sorted(within, key=lambda finalist: -finalist.auroc):
            try:
                _finish(winner, parts, plan, destination, progress)
            except ToleranceError as error:  # of what learnt from more images than the finalist
                refused.append(f"{winner.candidate}, {winner.precision}: {error.found}")
            else:
                break
        else:
            raise SettingsError(f"none of the finalists can be finished: {refused[-1]}")
    return Tuned(
        finalists,
        pareto_front(finalists),
        winner,
        first.tried,
        first.too_slow,
        first.problems + problems + refused,
        draw_front(finalists, plan.latency_ms, winner),
        time.perf_counter() - started,
        parts.groups.account,
    )


def halve(outcomes: list[Outcome], team: Team) -> tuple[list[Outcome], list[str]]:
    """Let fewer candidates learn from more images, and fewer yet from all; presets always come through.

    What learns from all of them has more patches to fill a memory bank with, and chooses its size again.

    Returns
    -------
    (list of Outcome, list of str)
        The finalists, best first, and what went wrong with others.
    """
    problems: list[str] = []
    for number, share in enumerate(LATER_SHARES, 2):
        kept = max(MIN_FINALISTS, len(outcomes) // 2)
        candidates = [one.candidate for i, one in enumerate(outcomes) if i < kept or one.candidate.name]
        stage = f"round {number} of {len(LATER_SHARES) + 1}"
        is_last = share == 1.0
        if is_last:
            candidates = [candidate.reopened() for candidate in candidates]
        outcomes, found = team.learn(candidates, share, stage, build=is_last)
        problems += found
        if not outcomes:
            raise SettingsError(f"no candidate could be trained: {problems[0]}")
    return outcomes, problems


def _finish(winner: Finalist, parts: Parts, plan: TunePlan, destination: Path, progress: StageProgress) -> None:
    """Let the winner learn from the judged images too, and put it in its place."""
    progress("finish the winner", 0, 1)
    learn = (*parts.learn, *parts.judge)
    trial = Trial(
        winner.candidate,
        learn,
        tuple(parts.judge[:1]),
        kernels.threads(),
        plan.seed,
        parts.calibration,
        groups=parts.groups_of(learn),
    )
    outcome = run_trial(trial)
    if outcome.problem:
        raise SettingsError(f"{winner.candidate}: {outcome.problem}")
    with tempfile.TemporaryDirectory(prefix="edgead-winner-") as work:
        path = unpack(outcome, Path(work))
        if winner.precision != "fp32":
            images = CalibrationImages(learn, parts.calibration.images, "training data", parts.calibration.groups)
            add_precision(path, PrecisionPlan(winner.precision, make_default=True), images)
        facts = {
            "data": parts.name,
            **({"normal_dir": plan.normal_dir} if plan.normal_dir is not None else {}),
            "data_sha256": parts.sha256,
            "training_images": len(learn),
            "calibration_images": len(parts.calibration.images),
            "groups": parts.groups.facts(learn, parts.calibration.images),
            "tuned": {**winner.to_dict(), "budget_ms": plan.latency_ms, "runtime": plan.runtime},
        }
        _install(path, destination, facts, learn)
    progress("finish the winner", 1, 1)


def _install(path: Path, destination: Path, facts: dict[str, Any], learnt: Sequence[Path]) -> None:
    """Put a finished artifact in its place, with these facts of its training in its manifest."""
    with new_artifact(destination) as draft:
        shutil.copytree(path, draft, dirs_exist_ok=True)
        manifest = Artifact.load(draft).manifest
        training = {**manifest.training, **facts}
        keep_learnt(draft, learnt)
        write_manifest(draft, manifest.model_copy(update={"training": training}))
