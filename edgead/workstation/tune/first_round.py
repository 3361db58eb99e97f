"""The first round of a search: candidates learn from a quarter of the images, in waves of neighbours of the best."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.workstation.tune.finalists import TIMED, frame_ms, network_ms
from edgead.workstation.tune.space import Candidate, nearest_first
from edgead.workstation.tune.trial import Outcome, unpack
from edgead.workstation.tune.trial_runner import Team

SHARE = 0.25
WAVES = 4
LEADERS = 2
# A frame takes less time with an int8 network, hardly ever less than two thirds: the network is not all of it.
INT8_FACTOR = 1.5
ROUGH_FRAMES = 60
TIMINGS = 2  # of what was too slow: the machine may have been, see `edgead.workstation.tune.finalists.SERIES`


class FirstRound:
    """Tries `plan.trials` candidates: the presets and any others first, then mostly those near the best so far.

    Attributes
    ----------
    outcomes : list of Outcome
        Best first: the presets, and all whose frames keep within the budget.
    tried, too_slow : int
    problems : list of str
        What went wrong with candidates.
    """

    def __init__(self, team: Team):
        self._team, self._plan, self._progress = team, team.plan, team.progress
        self._images = [load_image(path) for path in team.parts.judge[:TIMED]]
        # Time in fp32 beyond which a candidate cannot keep within the budget.
        self._limit_ms = self._plan.latency_ms * (INT8_FACTOR if "int8" in self._plan.precisions else 1)
        self._networks_ms: dict[tuple[str, ...], float] = {}
        self._slow_networks: set[Candidate] = set()
        self._fastest_ms = math.inf
        self.outcomes: list[Outcome] = []
        self.tried = self.too_slow = 0
        self.problems: list[str] = []

    def run(self, candidates: Sequence[Candidate]) -> None:
        """Try candidates, in this order where nothing better is known.

        Raises
        ------
        SettingsError
            If none could be trained, or none keeps within the budget.
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
        """The first that are not too slow by their network alone, and what is left; presets are taken.

        What was too slow is left too, and timed again in the next wave: the machine may have been slow.
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

    def _takes_part(self, outcome: Outcome) -> bool:
        usable = outcome if outcome.candidate.name else self._fast_enough(outcome)
        if usable:
            self.outcomes.append(replace(usable, artifact=b""))  # tens of MiB that nobody needs any more
        return usable is not None

    def _fast_enough(self, outcome: Outcome) -> Outcome | None:
        """The outcome with the best of its memory banks that keeps within the budget, if any does."""
        for candidate, auroc in ((outcome.candidate, outcome.auroc), *outcome.others):
            usable = replace(outcome, candidate=candidate, auroc=auroc)
            took_ms = self._frame_ms(usable)
            self._fastest_ms = min(self._fastest_ms, took_ms)
            if took_ms <= self._limit_ms:
                return usable
        return None

    def _frame_ms(self, outcome: Outcome) -> float:
        """Of what the trial built, here and while no trial runs."""
        with tempfile.TemporaryDirectory(prefix="edgead-timed-") as folder:
            with Detector.load(unpack(outcome, Path(folder)), runtime=self._plan.runtime) as detector:
                return frame_ms(detector, self._images, ROUGH_FRAMES)
