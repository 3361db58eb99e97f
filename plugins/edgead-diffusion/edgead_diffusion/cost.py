"""Cost of SeaS and AnoGen, counted in passes of the U-Net, of which one is timed."""

from __future__ import annotations

import time

import torch

from edgead_diffusion.anogen import AnogenPlan
from edgead_diffusion.seas import SeasPlan
from edgead_diffusion.stable_diffusion import StableDiffusion

_LEARNING = 3
"""Passes that a step costs for each image: forward, and backward for activations and weights."""


def count_passes(plan: SeasPlan | AnogenPlan, kinds: int, images: int) -> int:
    """Count the U-Net's passes of one image each for learning a number of kinds and making a number of images."""
    sampling = 2 * plan.sampling_steps * images
    if isinstance(plan, AnogenPlan):
        return _LEARNING * plan.steps * plan.batch_size * kinds + sampling
    # Batches include good parts; for the training of masks the U-Net runs only forward.
    seen = 2 * plan.steps * plan.accumulation * plan.batch_size * kinds
    return (_LEARNING + 1) * seen + sampling


@torch.inference_mode()
def time_pass(model: StableDiffusion) -> float:
    """Time one pass of one image in seconds, after a warm-up."""
    side = model.unet.config.sample_size
    latents = torch.zeros(1, model.unet.config.in_channels, side, side, device=model.device)
    words, step = model.words([""]), torch.zeros(1, dtype=torch.long, device=model.device)
    for _ in range(2):
        started = time.perf_counter()
        model.unet(latents, step, words)
        seconds = time.perf_counter() - started
    return seconds
