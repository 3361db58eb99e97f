"""Training of INP-Former: the backbone runs once over each image, and the reconstruction learns from its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgead.adapt.methods.method import Course
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.loop import run_steps
from edgead.workstation.trainer.prefetch import KeptImages
from edgead_foundation.inp_former.losses import COHERENCE_WEIGHT, coherence_loss, soft_mining_loss
from edgead_foundation.inp_former.network import InpNetwork
from edgead_foundation.inp_former.reconstruction import Reconstruction, mean_of
from edgead_foundation.inp_former.stable_adamw import StableAdamW

KEPT_BYTES = 2**32
"""Memory for tokens: enough for 680 images of 448 pixels with ViT-B; tokens of more images are computed each time."""

LARGEST_GRADIENT = 0.1
LAST_RATE = 0.1
"""Share of the learning rate that is left at the end."""


@dataclass(frozen=True, slots=True)
class TrainingSchedule:
    """Schedule of a training.

    `images`: number of images to learn from.
    `epochs`, `batch`: passes over all images, and images of a step; each epoch skips the images after its last complete
        batch.
    `warm_up`: number of steps in which the rate rises from 0.
    """

    images: int
    epochs: int
    batch: int
    learning_rate: float
    warm_up: int
    seed: int

    @property
    def per_epoch(self) -> int:
        return max(1, self.images // self.batch)

    @property
    def steps(self) -> int:
        return self.epochs * self.per_epoch

    def of(self, step: int) -> np.ndarray:
        """Return the indices of the images of a step, numbered from 0."""
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
        return order[place * self.batch : (place + 1) * self.batch]

    def rate(self, step: int) -> float:
        """Factor of the learning rate at a step."""
        return warm_cosine(step, self.steps, self.warm_up)


def warm_cosine(step: int, steps: int, warm_up: int) -> float:
    """Compute the authors' schedule: it rises from 0, is 1 for two steps, and falls to `LAST_RATE` by a cosine."""
    if step < warm_up:
        return step / max(1, warm_up - 1)
    share = (step - warm_up) / max(1, steps - warm_up)
    return LAST_RATE + 0.5 * (1 - LAST_RATE) * (1 + math.cos(math.pi * share))


class Encoded(Sequence[np.ndarray]):
    """Sequence that gives the backbone's tokens of each image, float32 (groups, t, d)."""

    def __init__(self, network: InpNetwork, images: Sequence[np.ndarray], device: torch.device):
        self._network, self._images, self._device = network, images, device

    def __len__(self) -> int:
        return len(self._images)

    @torch.inference_mode()
    def __getitem__(self, number: int) -> np.ndarray:  # type: ignore[override]
        image = torch.from_numpy(self._images[number])[None].to(self._device)
        return torch.cat(self._network.encode(image)).cpu().numpy()


def train(network: InpNetwork, images: Sequence[np.ndarray], plan: TrainingSchedule, course: Course) -> None:
    """Train the reconstruction on good images; the network is on the course's device and stays there."""
    encoded = KeptImages(Encoded(network, images, course.device), KEPT_BYTES)
    for number in range(len(images)):
        encoded[number]
        course.progress("extract features", number + 1, len(images))
    reconstruction = network.reconstruction.train()
    optimizer = StableAdamW(reconstruction.parameters(), plan.learning_rate)

    def step(number: int, rng: np.random.Generator) -> Tensor:
        batch = np.stack([encoded[i] for i in plan.of(number)], axis=1)
        return update(reconstruction, optimizer, list(torch.from_numpy(batch).to(course.device)))

    run_steps(
        step,
        Learner(reconstruction, [optimizer]),
        plan.steps,
        seed=plan.seed,
        schedule=plan.rate,
        checkpoint=course.checkpoint,
        progress=course.progress,
    )
    reconstruction.eval()


def update(
    reconstruction: Reconstruction, optimizer: StableAdamW, taught: Sequence[Tensor], whole: Tensor | None = None
) -> Tensor:
    """Make one step on a batch, (n, t, d) for each group; return the loss.

    `whole`, (n, s, d), has all tokens of each image, for the prototypes, if `taught` has only some of them.
    """
    tokens = mean_of(taught)
    made, prototypes = reconstruction(tokens, whole)
    loss = soft_mining_loss(taught, made) + COHERENCE_WEIGHT * coherence_loss(tokens, prototypes)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(reconstruction.parameters(), LARGEST_GRADIENT)
    optimizer.step()
    return loss.detach()
