"""Workers of a search: processes of this machine, or a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol

from edgead.errors import SettingsError
from edgead.process.installation import install_command
from edgead.workstation.tune.trial import Outcome, Trial, run_trial


class Workers(Protocol):
    def run(self, trials: Sequence[Trial]) -> Iterator[Outcome]:
        """Run trials; outcomes come in the order in which they are done."""
        ...


class ProcessPool:
    """Processes of this machine, each with its share of the cores."""

    def __init__(self, executor: ProcessPoolExecutor):
        self._executor = executor

    def run(self, trials: Sequence[Trial]) -> Iterator[Outcome]:
        for done in as_completed([self._executor.submit(run_trial, trial) for trial in trials]):
            try:
                yield done.result()
            except BrokenProcessPool:
                raise SettingsError(
                    "a process of the search was ended, most likely for want of memory: use fewer with --workers"
                ) from None


class RayCluster:
    """A Ray cluster: every node needs edgead[train,ray] and the images under the same path."""

    def __init__(self, threads: int):
        import ray

        self._ray = ray
        self._run = ray.remote(num_cpus=threads)(run_trial)

    def run(self, trials: Sequence[Trial]) -> Iterator[Outcome]:
        waiting = [self._run.remote(trial) for trial in trials]
        while waiting:
            ready, waiting = self._ray.wait(waiting, num_returns=1)
            yield from self._ray.get(ready)


@contextmanager
def open_workers(count: int, threads: int, ray_address: str | None) -> Iterator[Workers]:
    """Start processes, or connect to a cluster; ends with the block."""
    if ray_address is None:
        with _processes(count) as executor:
            yield ProcessPool(executor)
        return
    try:
        import ray
    except ModuleNotFoundError as error:
        raise SettingsError(f"--ray needs Ray: {install_command('ray')}") from error
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
    """Processes that end with the block; where it is stopped, at once and in the middle of a trial."""
    others = set(multiprocessing.active_children())
    # spawn: a forked child of a process with torch's threads may hang.
    executor = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield executor
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
