"""Workers of a search, processes of this machine or a Ray cluster, which train candidates on some of the images."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from edgead.dataset.folders import StageProgress
from edgead.errors import SettingsError
from edgead.process.installation import plugin_command
from edgead_tune.plan import ImageSplit, TunePlan
from edgead_tune.space import ROWS, Candidate
from edgead_tune.trial import Trial, TrialResult, run_trial


class TrialWorkers(Protocol):
    def run(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """Run trials; yield outcomes in the order in which they finish."""
        ...


class ProcessPool:
    """Workers that are processes of this machine, each with its share of the cores."""

    def __init__(self, executor: ProcessPoolExecutor):
        self._executor = executor

    def run(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        for done in as_completed([self._executor.submit(run_trial, trial) for trial in trials]):
            try:
                yield done.result()
            except BrokenProcessPool:
                raise SettingsError(
                    "a process of the search was ended, most likely for want of memory: use fewer with --workers"
                ) from None


class RayCluster:
    """Workers on a Ray cluster, where every node needs edgead-tune[ray] and the images under the same path."""

    def __init__(self, threads: int):
        import ray

        self._ray = ray
        self._run = ray.remote(num_cpus=threads)(run_trial)

    def run(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        waiting = [self._run.remote(trial) for trial in trials]
        while waiting:
            ready, waiting = self._ray.wait(waiting, num_returns=1)
            yield from self._ray.get(ready)


@contextmanager
def open_workers(count: int, threads: int, ray_address: str | None) -> Iterator[TrialWorkers]:
    """Start processes or connect to a cluster, until the block ends."""
    if ray_address is None:
        with _processes(count) as executor:
            yield ProcessPool(executor)
        return
    try:
        import ray
    except ModuleNotFoundError as error:
        raise SettingsError(f"--ray needs Ray: {plugin_command('edgead-tune[ray]')}") from error
    try:
        ray.init(address=ray_address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise SettingsError(
            f"--ray {ray_address}: no cluster there ({error}); start one with `ray start --head`"
        ) from None
    try:
        yield RayCluster(threads)
    finally:
        ray.shutdown()


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes that end with the block; an interruption ends them at once, in the middle of a trial."""
    others = set(multiprocessing.active_children())
    # spawn, as a forked child of a process with torch's threads may hang.
    executor = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield executor
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Team:
    """Workers with `threads` threads each, and the images and the plan that all use."""

    workers: TrialWorkers
    threads: int
    parts: ImageSplit
    plan: TunePlan
    progress: StageProgress

    def learn(
        self, candidates: Sequence[Candidate], share: float, stage: str, *, build: bool
    ) -> tuple[list[TrialResult], list[str]]:
        """Train candidates on a share of the images; return outcomes, best first, and problems of the others.

        With `build` each outcome has its artifact.
        """
        learn = tuple(self.parts.learn[: max(2, round(share * len(self.parts.learn)))])
        calibration = self.parts.calibration if build else None
        judge = tuple(self.parts.judge)
        groups = self.parts.groups_of(learn)
        trials = [
            Trial(one, learn, judge, self.threads, self.plan.seed, calibration, ROWS.get(one.detector, ()), groups)
            for one in candidates
        ]
        outcomes: list[TrialResult] = []
        for outcome in self.workers.run(trials):
            outcomes.append(outcome)
            self.progress(stage, len(outcomes), len(trials))
        problems = [f"{one.candidate}: {one.problem}" for one in outcomes if one.problem]
        return sorted((one for one in outcomes if not one.problem), key=lambda one: -one.auroc), problems
