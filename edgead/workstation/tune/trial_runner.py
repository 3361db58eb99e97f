"""The workers of a search, and what it gives each of them: candidates to learn from a share of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgead.dataset.folders import StageProgress
from edgead.workstation.tune.plan import Parts, TunePlan
from edgead.workstation.tune.space import ROWS, Candidate
from edgead.workstation.tune.trial import Outcome, Trial
from edgead.workstation.tune.workers import Workers


@dataclass(frozen=True, slots=True)
class Team:
    """Workers with `threads` each, the images and the plan that they share."""

    workers: Workers
    threads: int
    parts: Parts
    plan: TunePlan
    progress: StageProgress

    def learn(
        self, candidates: Sequence[Candidate], share: float, stage: str, *, build: bool
    ) -> tuple[list[Outcome], list[str]]:
        """Outcomes of candidates that learned from a share of the images, best first; and what went wrong with others.

        With `build` each has its artifact.
        """
        learn = tuple(self.parts.learn[: max(2, round(share * len(self.parts.learn)))])
        calibration = self.parts.calibration if build else None
        judge = tuple(self.parts.judge)
        groups = self.parts.groups_of(learn)
        trials = [
            Trial(one, learn, judge, self.threads, self.plan.seed, calibration, ROWS.get(one.detector, ()), groups)
            for one in candidates
        ]
        outcomes: list[Outcome] = []
        for outcome in self.workers.run(trials):
            outcomes.append(outcome)
            self.progress(stage, len(outcomes), len(trials))
        problems = [f"{one.candidate}: {one.problem}" for one in outcomes if one.problem]
        return sorted((one for one in outcomes if not one.problem), key=lambda one: -one.auroc), problems
