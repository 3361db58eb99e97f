"""Training loop of gradient steps: seeded for every step, so that it can be stopped and resumed at any step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.workstation.trainer.checkpoint import Checkpoint, Learner

Step = Callable[[int, np.random.Generator], Tensor]
"""Function that makes one update, given the step's number from 0 and a random generator; returns the loss, a scalar."""

Schedule = Callable[[int], float]
"""Function from the step's number to a factor for the learning rates that the optimizers were built with."""

CHECK_EVERY = {"cuda": 50}
"""Steps whose losses are checked together, by device: a check waits until the GPU has finished all its work."""


@runtime_checkable
class WatchesLoss(Protocol):
    """StageProgress that also gets the loss of each step, after the check that it is finite."""

    def loss(self, stage: str, step: int, steps: int, loss: float) -> None: ...


_LONG_S = 3600.0
_TIMED = 2
"""Number of steps, after the first (warm-up), from which the duration of a training is estimated."""

logger = logging.getLogger(__name__)


def constant(step: int) -> float:
    """Schedule with constant learning rates."""
    return 1.0


def descend(loss: Tensor, *optimizers: torch.optim.Optimizer) -> Tensor:
    """Make one update by the gradients of a loss; return the loss."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    return loss


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
    """Run `steps` steps, or the remaining ones of an interrupted run of the same training.

    A resumed run gives the weights of an uninterrupted one bit for bit, on the same machine with the same number of
    threads (on a GPU up to the order of its sums): the numpy generator passed to a step and torch's own, on every
    device, are seeded from (seed, number of the step). Everything that a step changes must be in `learner`.

    `step`: function of one update; see `Step`. It must not change the learning rates.
    `learner`: learner in training mode and on its device.
    `schedule`: pure function of the step's number, see `Schedule`, so that it has no state to save.
    `checkpoint`: place to save the state: every `checkpoint.every_s` seconds, and at the end. With one, the expected
        time is logged after three steps on a CPU, if it is more than an hour.
    `progress`: called with (`learner.stage`, done, steps); one that is a `WatchesLoss` with (`learner.stage`, step from
        1 on, steps, loss) as well.
    Raises SettingsError: the loss is NaN or infinite.
    """
    groups = [group for optimizer in learner.optimizers for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    begin = checkpoint.load(learner) if checkpoint else 0
    if begin:
        logger.warning("%s: resumed after step %d of %d", learner.stage, begin, steps)
    # Loading replaces the parameter groups with the scheduled rates in them.
    groups = [group for optimizer in learner.optimizers for group in optimizer.param_groups]
    progress(learner.stage, begin, steps)
    devices = sorted({p.device.index for p in learner.module.parameters() if p.device.type == "cuda"})
    # Only devices of the learner: torch.manual_seed() queries every backend of torch, half a millisecond a step.
    generators = [torch.default_generator, *(torch.cuda.default_generators[index] for index in devices)]
    losses: list[Tensor] = []
    started = time.monotonic()
    with torch.random.fork_rng(devices):
        for number in range(begin, steps):
            if number == begin + 1:
                started = time.monotonic()
            elif number == begin + 1 + _TIMED and checkpoint and not devices:
                _report_long(learner.stage, (time.monotonic() - started) / _TIMED, steps - number)
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * schedule(number)
            rng = np.random.default_rng([seed, number])
            for generator in generators:
                generator.manual_seed(int(rng.integers(2**63)))
            losses.append(step(number, rng).detach())
            saves = checkpoint and (checkpoint.is_due or number + 1 == steps)
            if saves or number + 1 == steps or len(losses) >= CHECK_EVERY.get(losses[0].device.type, 1):
                found = _finite(losses, number)
                losses.clear()
                if isinstance(progress, WatchesLoss):
                    for done, loss in enumerate(found, number + 2 - len(found)):
                        progress.loss(learner.stage, done, steps, loss)
            if checkpoint and saves:
                checkpoint.save(learner, number + 1)
            progress(learner.stage, number + 1, steps)


def _report_long(stage: str, step_s: float, steps: int) -> None:
    if step_s * steps > _LONG_S:
        logger.warning(
            "%s: about %s more on this CPU, for %d steps; a training that is stopped goes on when it is started again",
            stage,
            span_text(step_s * steps),
            steps,
        )


def span_text(seconds: float) -> str:
    """Format a span of time for people, rounded up."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds > 2 * unit:
            return f"{math.ceil(seconds / unit)} {name}"
    return f"{max(1, math.ceil(seconds))} seconds"


def _finite(losses: list[Tensor], last: int) -> list[float]:
    """Return losses of consecutive steps, up to `last`, as floats; raises SettingsError unless all are finite."""
    found = torch.stack(losses).tolist()
    for number, loss in enumerate(found, last + 1 - len(losses)):
        if not math.isfinite(loss):
            raise SettingsError(f"the loss is {loss} at step {number}: lower the learning rate")
    return found
