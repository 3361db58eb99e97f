"""Training of `efficient_ad`'s model size `lite`: the backbone runs once over the good images, the student on that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from edgead.adapt.memory_bank.usual_scores import fit_usual_scores, look_at
from edgead.errors import SettingsError
from edgead.workstation.backbones.pyramid import each_batch
from edgead.workstation.methods.efficient_ad.lite_student import REACH, STRIDE_PX, LiteStudent, surround
from edgead.workstation.methods.efficient_ad.student_teacher import QUANTILES, hard_feature_loss
from edgead.workstation.methods.method import Course
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU
from edgead.workstation.trainer.loop import run_steps
from edgead.workstation.trainer.subset import Chosen

if TYPE_CHECKING:
    from edgead.workstation.methods.efficient_ad.lite import LiteConfig

MAX_PATCHES = 1_500_000
"""Images beyond those that have so many patches are left out by chance, which bounds the memory."""

SCALE_PATCHES = 120_000
"""Scales, and the covariance of the student's errors, are fitted to about so many patches."""

BATCH, CROP = 8, 16
"""Crops in a batch, and positions of the teacher's grid on their side."""

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises; then it falls to nothing by a cosine."""


def learn_lite(
    network: LiteStudent, images: Sequence[np.ndarray], course: Course, config: LiteConfig
) -> np.ndarray | None:
    """Learn from good images.

    Returns
    -------
    ndarray of shape (h, w), float32, or None
        What is usual at each place (`edgead.adapt.memory_bank.usual_scores`), if it is asked for and groups are enough.
    """
    rng = np.random.default_rng(config.seed)
    of_image = np.asarray(course.groups or range(len(images)))
    learnt, held_out = hold_out(of_image, config.validation_share, rng)
    known = Chosen(images, learnt)
    features = collect(network, known, course, rng)
    train(network, features, course, config)
    network.fold_errors(features.error_covariance(network, rng))
    del features
    maps = _maps(network, Chosen(images, held_out), course, "normalise maps")
    network.fit_quantiles(np.quantile(maps, QUANTILES))
    # Where images are filled up, their places are not the same.
    looked_at = look_at(of_image[learnt], config.seed)
    if not (len(looked_at) and config.by_place and config.fill == "stretch"):
        return None
    return fit_usual_scores(_maps(network, Chosen(known, looked_at), course, "compare places"))


def hold_out(of_image: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images to learn from, and of those held out: whole groups, until they are the share of all.

    Raises
    ------
    SettingsError
        All images are one group.
    """
    groups, sizes = np.unique(of_image, return_counts=True)
    if len(groups) < 2:
        raise SettingsError(f"efficient_ad needs at least two good images of different groups, found {len(of_image)}")
    order = rng.permutation(len(groups))
    before = np.cumsum(sizes[order]) - sizes[order]
    count = min(len(groups) - 1, int((before < share * len(of_image)).sum()))
    held_out = np.isin(of_image, groups[order[:count]])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


@dataclass(frozen=True)
class GoodFeatures:
    """What the student sees, surrounded and standardised by `mean` and `std`, and what it is taught; float16."""

    seen: Tensor
    taught: Tensor
    mean: Tensor
    std: Tensor

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw a batch of crops, float32: (BATCH, d, 2 (h + 2 REACH), 2 (w + 2 REACH)) and (BATCH, d', h, w)."""
        sides = self.taught.shape[2:]
        height, width = (min(CROP, side) for side in sides)
        seen, taught = [], []
        for pick in rng.integers(len(self.seen), size=BATCH).tolist():
            top, left = int(rng.integers(sides[0] - height + 1)), int(rng.integers(sides[1] - width + 1))
            bottom, right = (2 * (end + 2 * REACH) for end in (top + height, left + width))
            seen.append(self.seen[pick, :, 2 * top : bottom, 2 * left : right])
            taught.append(self.taught[pick, :, top : top + height, left : left + width])
        return torch.stack(seen).float(), torch.stack(taught).float()

    @torch.inference_mode()
    def error_covariance(self, network: LiteStudent, rng: np.random.Generator) -> np.ndarray:
        """Second moments (d, d), float64, of what a student that is not folded yet misses on some of the images."""
        count = max(1, SCALE_PATCHES // math.prod(self.taught.shape[2:]))
        total = torch.zeros(self.taught.shape[1], self.taught.shape[1], dtype=torch.float64)
        for pick in rng.permutation(len(self.seen))[:count].tolist():
            seen = self.seen[pick, None].float() * self.std + self.mean
            errors = (self.taught[pick, None].float() - network.student(seen)).flatten(2)[0].double()
            total += errors @ errors.T
        return total.numpy()


def collect(
    network: LiteStudent, images: Sequence[np.ndarray], course: Course, rng: np.random.Generator
) -> GoodFeatures:
    """Run the backbone, fit the scale of what the teacher gives, and keep what the student learns from."""
    height, width = (side // STRIDE_PX for side in images[0].shape[:2])
    chosen = np.sort(rng.permutation(len(images))[: max(1, MAX_PATCHES // (height * width))])
    progress = partial(course.progress, "extract features")
    seen, averaged, at = torch.empty(0), [torch.empty(0)], 0
    for first, *deeper in each_batch(network, Chosen(images, chosen), course.device, progress):
        batch = [surround(first), *network.average(deeper)]
        if not at:  # of full size from the start: pieces put together at the end would need the memory twice
            seen, *averaged = (torch.empty(len(chosen), *part.shape[1:], dtype=torch.float16) for part in batch)
        for kept, part in zip((seen, *averaged), batch, strict=True):
            kept[at : at + len(first)] = part
        at += len(first)
    network.fit_teacher([_rows(layer, rng) for layer in averaged])
    rows = _rows(seen, rng)
    mean, std = rows.mean(dim=0)[:, None, None], rows.std(dim=0).clamp_min(1e-6)[:, None, None]
    taught = torch.empty(len(chosen), sum(network.channels), *averaged[0].shape[2:], dtype=torch.float16)
    with torch.inference_mode():
        for number, shallow in enumerate(seen.split(1)):
            shallow.copy_((shallow.float() - mean) / std)
            taught[number] = network.describe([layer[number, None].float() for layer in averaged])[0]
    return GoodFeatures(seen, taught, mean, std)


def _rows(features: Tensor, rng: np.random.Generator) -> Tensor:
    """Some positions of every image, as many of each, float32 (rows, d)."""
    flat = features.flatten(2)
    count = min(flat.shape[2], max(1, SCALE_PATCHES // len(flat)))
    picks = [torch.from_numpy(rng.choice(flat.shape[2], count, replace=False)) for _ in flat]
    return torch.cat([image[:, pick].T.float() for image, pick in zip(flat, picks, strict=True)])


def train(network: LiteStudent, features: GoodFeatures, course: Course, config: LiteConfig) -> None:
    """The student learns to predict the teacher: the mean square error, and beside it the paper's L_hard."""
    student = network.student.to(course.device).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

    def step(number: int, rng: np.random.Generator) -> Tensor:
        seen, taught = (part.to(course.device) for part in features.draw(rng))
        given = student(seen)
        hard = hard_feature_loss(taught, given, config.hard_quantile)
        loss = torch.nn.functional.mse_loss(given, taught) + config.hard_weight * hard
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    run_steps(
        step,
        Learner(student, [optimizer]),
        config.steps,
        seed=config.seed,
        schedule=partial(_rate, config.steps),
        checkpoint=course.checkpoint,
        progress=course.progress,
    )
    network.to(CPU).eval()
    network.fold_input(features.mean, features.std)


def _rate(steps: int, number: int) -> float:
    rising = max(1, round(WARM_UP * steps))
    if number < rising:
        return (number + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (number - rising) / max(1, steps - rising)))


def _maps(network: LiteStudent, images: Sequence[np.ndarray], course: Course, stage: str) -> np.ndarray:
    """Patch scores of images, float32 (n, h, w)."""
    batches = each_batch(network, images, course.device, partial(course.progress, stage))
    with torch.inference_mode():
        return np.concatenate([network.scores(levels).cpu().numpy() for levels in batches])
