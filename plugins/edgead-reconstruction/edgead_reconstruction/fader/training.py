"""Training of FADeR's gates; the reconstruction network itself stays frozen.

After Park et al. (arXiv 2407.04597), whose code is not public. From the paper: two layers on skip connections, trained
after the base model without labelled defects, and reconstruction errors that decide patch by patch what to attenuate.
All numbers are edgead's, and so is the simulation of defects, as in DRAEM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from edgead import kernels
from edgead.adapt.methods.method import Course
from edgead.workstation.methods.draem.anomalies import Simulator
from edgead.workstation.methods.draem.anomaly_textures import built_in_textures
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.loop import descend, run_steps
from edgead_reconstruction.ear.network import to_pixels
from edgead_reconstruction.ear.similarity import inpainting_loss
from edgead_reconstruction.fader.attenuation import (
    RECONSTRUCTION_WEIGHT,
    Attenuation,
    fit_usual,
    gate_loss,
    gate_targets,
)

LEARNT_QUANTILE = 0.99
"""Quantile of the errors of good images; pixels above it count as badly reconstructed."""
USUAL_IMAGES = 64
"""Largest number of good images from which usual values are computed."""


class Rebuild(Protocol):
    """Reconstruction network with gates."""

    def __call__(self, image: Tensor, *, gated: bool) -> tuple[Tensor, list[Tensor]]:
        """uint8 RGB (n, h, w, 3) -> the reconstruction, (n, 3, h, w) in 0..1, and each gate's logits.

        The logits are (n, 1, h', w'); the list is empty if not `gated`.
        """
        ...


def train_gates(
    gates: nn.ModuleList,
    encode: Callable[[Tensor], list[Tensor]],
    rebuild: Rebuild,
    images: Sequence[np.ndarray],
    course: Course,
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
) -> None:
    """Train the gates on good images with simulated defects.

    `gates`: on the device. Only they change: the rest is in evaluation mode and has no gradients.
    `encode`: uint8 RGB (n, h, w, 3) -> input of each gate.
    `images` (sequence of ndarray of shape (h, w, 3), uint8, RGB): good images.
    """
    picks = np.random.default_rng(seed).permutation(len(images))[:USUAL_IMAGES].tolist()
    good = [torch.from_numpy(images[pick])[None].to(course.device) for pick in picks]
    fit_usual([gate for gate in gates if isinstance(gate, Attenuation)], encode, good)
    with torch.no_grad():
        errors = torch.cat([_error(rebuild(one, gated=False)[0], to_pixels(one)).cpu() for one in good])
    limit = float(np.quantile(errors.numpy(), LEARNT_QUANTILE))
    simulator = Simulator(images, built_in_textures(images), match_grey=False)
    optimizer = torch.optim.Adam(gates.parameters(), lr=rate)

    def step(number: int, rng: np.random.Generator) -> Tensor:
        drawn = simulator.batch(batch, rng, executor)
        clean = torch.from_numpy(drawn.image).to(course.device).permute(0, 3, 1, 2)
        corrupted = torch.from_numpy(np.rint(255 * drawn.corrupted).astype(np.uint8)).to(course.device)
        with torch.no_grad():
            error = _error(rebuild(corrupted, gated=False)[0], clean)
        rebuilt, logits = rebuild(corrupted, gated=True)
        targets = gate_targets(error, limit, [(x.shape[2], x.shape[3]) for x in logits])
        loss = gate_loss(logits, targets) + RECONSTRUCTION_WEIGHT * inpainting_loss(clean, rebuilt)
        return descend(loss, optimizer)

    with ThreadPoolExecutor(kernels.threads(), "edgead-simulator") as executor:
        run_steps(
            step,
            Learner(gates, [optimizer], stage="train gates"),
            steps,
            seed=seed,
            checkpoint=course.checkpoint,
            progress=course.progress,
        )


def _error(rebuilt: Tensor, clean: Tensor) -> Tensor:
    """Return the absolute difference, averaged over channels, (n, h, w)."""
    return (rebuilt - clean).abs().mean(dim=1)
