"""The loop of the detectors that are trained by gradient steps: seeded step by step, stopped and resumed at will."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.methods.checkpoint import Checkpoint, Learner

Step = Callable[[int, np.random.Generator], Tensor]
"""Called with the step's number from 0 and its generator; makes one update and returns the loss, one number."""

Schedule = Callable[[int], float]
"""Called with the step's number; the factor on every learning rate that the optimizers were built with."""

CHECK_EVERY = {"cuda": 50}
"""Steps whose losses are looked at together, by device: a look waits for all that a GPU has been given to do."""

logger = logging.getLogger(__name__)


def constant(step: int) -> float:
    """The Schedule that leaves the learning rates as they are."""
    return 1.0


def run_steps(
    step: Step,
    learner: Learner,
    steps: int,
    *,
    seed: int,
    schedule: Schedule = constant,
    checkpoint: Checkpoint | None = None,
    progress: StageProgress = no_progress,
) -> None:
    """Make `steps` steps, or those that an interrupted run of the same training did not come to.

    A resumed run gives the weights of an uninterrupted one bit for bit, on the same machine with the same number of
    threads (on a GPU up to the order of its sums): numpy's generator that a step is given and torch's own, on every
    device, are seeded from (seed, number of the step). All that a step changes must be in `learner`.

    Parameters
    ----------
    step : callable
        One update; see `Step`. It must leave the learning rates alone.
    learner : Learner
        In training mode and on its device already.
    steps : int
    seed : int
    schedule : callable, optional
        A pure function of the step's number, see `Schedule`: it needs no place in the checkpoint.
    checkpoint : Checkpoint, optional
        Where the state is kept: every `checkpoint.every_s` seconds, and at the end.
    progress : callable, optional
        Called with (`learner.stage`, done, steps).

    Raises
    ------
    SettingsError
        If the loss is NaN or infinite.
    """
    groups = [group for optimizer in learner.optimizers for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    begin = checkpoint.load(learner) if checkpoint else 0
    if begin:
        logger.warning("%s: resumed after step %d of %d", learner.stage, begin, steps)
    # Loading replaces the groups, and with them the scheduled rates.
    groups = [group for optimizer in learner.optimizers for group in optimizer.param_groups]
    progress(learner.stage, begin, steps)
    devices = sorted({p.device.index for p in learner.module.parameters() if p.device.type == "cuda"})
    # Those that the learner uses: torch.manual_seed() asks every backend that torch knows, half a millisecond a step.
    generators = [torch.default_generator, *(torch.cuda.default_generators[index] for index in devices)]
    losses: list[Tensor] = []
    with torch.random.fork_rng(devices):
        for number in range(begin, steps):
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * schedule(number)
            rng = np.random.default_rng([seed, number])
            for generator in generators:
                generator.manual_seed(int(rng.integers(2**63)))
            losses.append(step(number, rng).detach())
            saves = checkpoint and (checkpoint.is_due or number + 1 == steps)
            if saves or number + 1 == steps or len(losses) >= CHECK_EVERY.get(losses[0].device.type, 1):
                _check(losses, number)
                losses.clear()
            if checkpoint and saves:
                checkpoint.save(learner, number + 1)
            progress(learner.stage, number + 1, steps)


def _check(losses: list[Tensor], last: int) -> None:
    """Refuse losses of consecutive steps, `last` the number of the last one, unless all are finite."""
    for number, loss in enumerate(torch.stack(losses).tolist(), last + 1 - len(losses)):
        if not math.isfinite(loss):
            raise SettingsError(f"the loss is {loss} at step {number}: lower the learning rate")
