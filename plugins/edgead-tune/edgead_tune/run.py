"""Search for the best detector within a latency budget on this machine; the test set is never used.

Successive halving (Jamieson and Talwalkar, AISTATS 2016): all candidates learn from a quarter of the images, in waves
of neighbours of the best; the better half of them learns from half of the images, and again the better half from all.
The finalists are built, timed and evaluated in the form that ships.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgead.export.calibration_images import find_calibration_images
from edgead.export.precision import PrecisionPlan, add_precision
from edgead.export.rewrite import ToleranceError

from edgead import kernels
from edgead.adapt.training.from_folder import train_from_folder
from edgead.adapt.training.good_images import GoodImages, find_proportions
from edgead.artifact.folder import check_destination, new_artifact, write_manifest
from edgead.dataset.folders import StageProgress, no_progress
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.runtime import checked_runtime
from edgead_tune.finalists import TIMED, Finalist, draw_front, frame_ms, judge_finalists, network_ms, pareto_front
from edgead_tune.plan import TunePlan, split_images
from edgead_tune.space import Candidate, draw_candidates, nearest_first
from edgead_tune.trial import TrialResult, unpack
from edgead_tune.workers import Team, open_workers

SHARE = 0.25
WAVES = 4
LEADERS = 2
# An int8 network shortens a frame's time, but hardly ever below two thirds, as the network is only a part of it.
INT8_FACTOR = 1.5
ROUGH_FRAMES = 60
TIMINGS = 2  # of slow candidates, as the machine may have been slow; see `edgead_tune.finalists.SERIES`
LATER_SHARES = (0.5, 1.0)
MIN_FINALISTS = 4


class FirstRound:
    """First round: tries `plan.trials` candidates, presets and some more first, then mostly neighbours of the best.

    `outcomes`: results of presets, and of all candidates whose frames keep within the budget; best first.
    `problems`: problems of candidates.
    """

    def __init__(self, team: Team):
        self._team, self._plan, self._progress = team, team.plan, team.progress
        self._images = [load_image(path) for path in team.parts.judge[:TIMED]]
        # Time in fp32 above which a candidate cannot keep within the budget in any precision.
        self._limit_ms = self._plan.latency_ms * (INT8_FACTOR if "int8" in self._plan.precisions else 1)
        self._networks_ms: dict[tuple[str, ...], float] = {}
        self._slow_networks: set[Candidate] = set()
        self._fastest_ms = math.inf
        self.outcomes: list[TrialResult] = []
        self.tried = self.too_slow = 0
        self.problems: list[str] = []

    def run(self, candidates: Sequence[Candidate]) -> None:
        """Try candidates in waves: first in the given order, then neighbours of the best; results go to `outcomes`.

        Raises SettingsError: no candidate could be trained, or none keeps within the budget.
        """
        for wave in range(WAVES):
            leaders = [outcome.candidate for outcome in self.outcomes[:LEADERS]]
            waiting = nearest_first(candidates, leaders)
            presets = sum(1 for candidate in candidates if candidate.name)
            count = max(self._plan.trials * (wave + 1) // WAVES - self.tried, presets)
            taken, candidates = self._take(waiting, count)
            if taken:
                self._try(taken, f"round 1, wave {wave + 1} of {WAVES}")
        self.tried += len(self._slow_networks)
        self.too_slow += len(self._slow_networks)
        if self.outcomes:
            return
        if self.problems:
            raise SettingsError(f"no candidate could be trained: {self.problems[0]}")
        slowness = "each network takes longer"
        if self._fastest_ms < math.inf:
            slowness = f"the fastest takes {self._fastest_ms:.2f} ms"
        raise SettingsError(f"nothing keeps within {self._plan.latency_ms:g} ms on this machine: {slowness}")

    def _take(self, waiting: Sequence[Candidate], count: int) -> tuple[list[Candidate], list[Candidate]]:
        """Split off the first `count` candidates that are presets or have a fast enough network; return both lists.

        Slow candidates stay in the second list and are timed again in the next wave, as the machine may have been slow.
        """
        self._networks_ms = {graph: ms for graph, ms in self._networks_ms.items() if ms <= self._limit_ms}
        taken: list[Candidate] = []
        slow: list[Candidate] = []
        waiting = list(waiting)
        while waiting and len(taken) < count:
            candidate = waiting.pop(0)
            if candidate.name or self._network_ms(candidate) <= self._limit_ms:
                taken.append(candidate)
                self._progress("time networks", len(taken), count)
            else:
                slow.append(candidate)
        self.tried += len(taken)
        self._slow_networks = (self._slow_networks | set(slow)) - set(taken)
        return taken, slow + waiting

    def _network_ms(self, candidate: Candidate) -> float:
        if candidate.graph not in self._networks_ms:
            self._networks_ms[candidate.graph] = network_ms(candidate, self._plan.runtime)
        return self._networks_ms[candidate.graph]

    def _try(self, candidates: Sequence[Candidate], stage: str) -> None:
        slow, problems = self._team.learn(candidates, SHARE, stage, build=True)
        self.problems += problems
        for number in range(1, TIMINGS + 1):
            slow = [outcome for outcome in slow if not self._takes_part(outcome)]
            self._progress("time frames", number, TIMINGS)
        self.too_slow += len(slow)
        self.outcomes.sort(key=lambda one: -one.auroc)

    def _takes_part(self, outcome: TrialResult) -> bool:
        usable = outcome if outcome.candidate.name else self._fast_enough(outcome)
        if usable:
            self.outcomes.append(replace(usable, artifact=b""))  # tens of MiB, not needed any more
        return usable is not None

    def _fast_enough(self, outcome: TrialResult) -> TrialResult | None:
        """Return the outcome with its best memory bank that keeps within the budget, or None."""
        for candidate, auroc in ((outcome.candidate, outcome.auroc), *outcome.others):
            usable = replace(outcome, candidate=candidate, auroc=auroc)
            took_ms = self._frame_ms(usable)
            self._fastest_ms = min(self._fastest_ms, took_ms)
            if took_ms <= self._limit_ms:
                return usable
        return None

    def _frame_ms(self, outcome: TrialResult) -> float:
        """Measure the frame time of the model that a trial built, here and while no trial runs."""
        with tempfile.TemporaryDirectory(prefix="edgead-timed-") as folder:
            with Detector.load(unpack(outcome, Path(folder)), runtime=self._plan.runtime) as detector:
                return frame_ms(detector, self._images, ROUGH_FRAMES)


@dataclass(frozen=True, slots=True)
class Tuned:
    """Result of a search: all finalists, the Pareto front, and the winner, which has been written to `destination`."""

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
    """Search for the best detector and write the winner to `destination`.

    Candidates are compared by image AUROC on good images that they did not learn from, with and without defects drawn
    on them. Only good images are read. The winner is trained once more, as `edgead train` does.

    Raises SettingsError, DatasetError, CalibrationError, ArtifactError: the search failed, before anything was written;
        SettingsError also if no candidate keeps within the budget.
    """
    started = time.perf_counter()
    check_destination(destination)
    drawn = draw_candidates(plan.detectors, plan.seed)
    checked_runtime(plan.runtime)
    good = GoodImages(data, plan.normal_dir, false_reject_rate=plan.false_reject_rate, group=plan.group)
    parts = split_images(plan, good, progress)
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
                _finish(winner, good, plan, destination, progress)
            except ToleranceError as error:  # may come of the final training, on more images
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


def halve(outcomes: list[TrialResult], team: Team) -> tuple[list[TrialResult], list[str]]:
    """Train the better half on more images, then the better half of these candidates on all; presets are always kept.

    In the last round the size of the memory bank is chosen again, as more patches can fill it.

    Returns (list of TrialResult, list of str): the finalists, best first, and the problems of other candidates.
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


def _finish(winner: Finalist, good: GoodImages, plan: TunePlan, destination: Path, progress: StageProgress) -> None:
    """Train the winner as `edgead train` does, and write it to `destination`."""
    candidate = winner.candidate
    with tempfile.TemporaryDirectory(prefix="edgead-winner-") as work:
        path = Path(work) / "model"
        settings = {**candidate.settings, "seed": plan.seed}
        artifact, _ = train_from_folder(good, path, settings, detector=candidate.detector, progress=progress)
        if winner.precision != "fp32":
            images = find_calibration_images(artifact, good.data)
            artifact = add_precision(path, PrecisionPlan(winner.precision, make_default=True), images)
        tuned = {**winner.to_dict(), "budget_ms": plan.latency_ms, "runtime": plan.runtime}
        training = {**artifact.manifest.training, "tuned": tuned}
        with new_artifact(destination) as draft:
            shutil.copytree(path, draft, dirs_exist_ok=True)
            write_manifest(draft, artifact.manifest.model_copy(update={"training": training}))
