"""SeaS: fine-tunes a Stable Diffusion on the few real defects of a product, and makes new defects with masks.

The authors' code uses the 8-bit AdamW of bitsandbytes; this module uses torch's AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from edgead.dataset.folders import StageProgress, no_progress
from edgead.workstation.trainer.checkpoint import Checkpoint, Learner
from edgead.workstation.trainer.loop import Step, run_steps
from edgead_diffusion import seas_prompts as prompts
from edgead_diffusion.attention_maps import CrossAttentionMaps
from edgead_diffusion.examples import ExampleBatch, Examples
from edgead_diffusion.seas_losses import decoupled_alignment, focal_loss, noise_losses
from edgead_diffusion.seas_masks import MaskPredictor
from edgead_diffusion.stable_diffusion import StableDiffusion, outputs_of, to_images, to_tensor

MASKED_STEPS = 3
"""Number of last sampling steps whose masks are averaged."""


@dataclass(frozen=True, slots=True)
class SeasPlan:
    """Settings of SeaS's training and sampling; the defaults are those of the authors' code for MVTec AD.

    `steps`: number of updates for each type of defect: so many of the U-Net, then so many of the mask predictor.
    `batch_size`, `accumulation`: numbers of defects in a batch, with as many good parts, and of batches in an update.
    `unet_rate`, `words_rate`, `mask_rate`, `weight_decay`: parameters of AdamW.
    `turn`: rotate and flip examples; not for parts with a fixed orientation.
    `sampling_steps`: number of steps of DPM-Solver++.
    `guidance`: 8 for MVTec AD, 2 for VisA, 5 for MVTec 3D-AD.
    `noise_steps`: see `more_noise`.
    `threshold`: probability above which a pixel belongs to the mask.
    """

    steps: int = 800
    batch_size: int = 2
    accumulation: int = 2
    unet_rate: float = 4e-6
    words_rate: float = 4e-5
    mask_rate: float = 5e-4
    weight_decay: float = 0.01
    turn: bool = True
    sampling_steps: int = 25
    guidance: float = 8.0
    noise_steps: int = 1500
    threshold: float = 0.2
    seed: int = 0


def fine_tune(
    model: StableDiffusion,
    examples: Examples,
    plan: SeasPlan,
    *,
    checkpoint: Checkpoint | None = None,
    progress: StageProgress = no_progress,
) -> None:
    """Fine-tune the U-Net and new words on the defects of a product, in place.

    Raises SettingsError: there are no good parts, the tokenizer already knows the words, or the loss is not finite.
    """
    examples.need_good_parts()
    prompts.add_words(model.tokenizer, model.text_encoder, examples.number_of_types)
    embeddings = model.text_encoder.get_input_embeddings()
    model.unet.requires_grad_(True).train()
    embeddings.requires_grad_(True)
    optimizers = [
        AdamW(model.unet.parameters(), lr=plan.unet_rate, weight_decay=plan.weight_decay),
        AdamW(embeddings.parameters(), lr=plan.words_rate, weight_decay=plan.weight_decay),
    ]

    step = _step(examples, plan, model.side, partial(generation_loss, model), optimizers)
    learner = Learner(nn.ModuleDict({"unet": model.unet, "words": embeddings}), optimizers, "seas")
    steps = plan.steps * examples.number_of_types
    run_steps(step, learner, steps, seed=plan.seed, checkpoint=checkpoint, progress=progress)
    model.unet.requires_grad_(False).eval()
    embeddings.requires_grad_(False)


def generation_loss(model: StableDiffusion, batch: ExampleBatch) -> Tensor:
    """Compute the loss of one batch: errors of the predicted noise, and misalignment of words with masks."""
    noisy, noise, steps = model.add_noise(model.encode(batch.images))
    defects = len(batch.masks)
    with CrossAttentionMaps(model.unet) as attention:
        predicted = model.unet(noisy, steps, model.words(_prompts_of(batch))).sample
        maps = {side: x[:defects] for side, x in attention.maps.items()}
    masks = batch.masks.to(model.device)
    alignment = decoupled_alignment(maps, masks, noisy.shape[-1], prompts.NORMAL, prompts.ANOMALOUS)
    return noise_losses(predicted, noise) + alignment


def train_masks(
    model: StableDiffusion,
    examples: Examples,
    plan: SeasPlan,
    *,
    checkpoint: Checkpoint | None = None,
    progress: StageProgress = no_progress,
) -> MaskPredictor:
    """Train the predictor of masks of made defects, with a model trained by `fine_tune`; the model is not changed."""
    examples.need_good_parts()
    unet, decoder = model.unet.config.block_out_channels, model.vae.config.block_out_channels
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        predictor = MaskPredictor((unet[-2], unet[-3]), (decoder[-1], decoder[-2], decoder[-3])).to(model.device)
    optimizer = AdamW(predictor.parameters(), lr=plan.mask_rate, weight_decay=plan.weight_decay)

    step = _step(examples, plan, model.side, partial(mask_loss, model, predictor), [optimizer])
    learner = Learner(predictor.train(), [optimizer], "seas masks")
    steps = plan.steps * examples.number_of_types
    run_steps(step, learner, steps, seed=plan.seed, checkpoint=checkpoint, progress=progress)
    return predictor.eval()


def mask_loss(model: StableDiffusion, predictor: MaskPredictor, batch: ExampleBatch) -> Tensor:
    """Compute the loss of predicted masks at a random noise step, at two sizes; good parts should get empty masks."""
    noisy, _, steps = model.add_noise(model.encode(batch.images))
    defects = len(batch.masks)
    with torch.no_grad(), outputs_of(*model.unet.up_blocks[1:3]) as features:
        predicted = model.unet(noisy, steps, model.words(_prompts_of(batch))).sample
        cleaner = [
            model.schedule.step(predicted[i : i + 1], int(steps[i]), noisy[i : i + 1]).prev_sample
            for i in range(defects)
        ]
        with outputs_of(*model.vae.decoder.up_blocks[:3]) as decoded:
            model.decode(torch.cat(cleaner))
    whole, coarse = predictor.learn(features, decoded)
    masks = batch.masks.to(model.device)
    masks = torch.cat([masks, torch.zeros_like(masks)])
    small = F.interpolate(masks, size=coarse.shape[-2:], mode="bilinear", align_corners=False)
    return focal_loss(whole, masks) + focal_loss(coarse, small)


@torch.inference_mode()
def make_defects(
    model: StableDiffusion, predictor: MaskPredictor, good: Sequence[np.ndarray], number: int, plan: SeasPlan
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make a defect of type `number` for each good part.

    `model`: model trained by `fine_tune`.
    `good` (sequence of ndarray of shape (h, w, 3), uint8, BGR): good parts from which sampling starts, with strong
        noise: they give the colours and place of the made part, not its pixels.
    Returns image, uint8 BGR (side, side, 3), and mask, uint8 (side, side), 255 in the defect.
    """
    solver = _solver(model, plan)
    generator = torch.Generator(model.device).manual_seed(plan.seed)
    start = model.encode(torch.stack([to_tensor(image, model.side) for image in good]), generator)
    # The authors' code does not scale these.
    start = start / model.vae.config.scaling_factor
    noise = torch.randn(start.shape, generator=generator, device=model.device)
    schedule = model.schedule.config
    x = more_noise(start, noise, (schedule.beta_start, schedule.beta_end), plan.noise_steps)
    words = model.words([""] * len(good) + [prompts.defect_prompt(number)] * len(good))
    found = []
    for i, step in enumerate(solver.timesteps):
        with outputs_of(*model.unet.up_blocks[1:3]) as features:
            without, with_words = model.unet(torch.cat([x, x]), step, words).sample.chunk(2)
        if i >= len(solver.timesteps) - MASKED_STEPS:
            with outputs_of(*model.vae.decoder.up_blocks[:3]) as decoded:
                model.decode(x)
            found.append(predictor([f.chunk(2)[1] for f in features], decoded)[:, 1])
        predicted = without + plan.guidance * (with_words - without)
        x = solver.step(predicted, step, x, generator=generator).prev_sample
    masks = (torch.stack(found).mean(dim=0) > plan.threshold).to(torch.uint8).mul(255).cpu().numpy()
    return list(zip(to_images(model.decode(x)), masks, strict=True))


def more_noise(latents: Tensor, noise: Tensor, betas: tuple[float, float], steps: int) -> Tensor:
    """Add the noise of the end of a schedule with more steps than the model was trained with.

    `latents`, `noise`: Tensor of shape (n, c, h, w).
    `betas`: first and last beta of the schedule, whose square roots are evenly spaced.
    """
    roots = torch.linspace(betas[0] ** 0.5, betas[1] ** 0.5, steps, dtype=torch.float32)
    kept = torch.cumprod(1 - roots.square(), dim=0)[-1].to(latents)
    return kept.sqrt() * latents + (1 - kept).sqrt() * noise


def _step(
    examples: Examples, plan: SeasPlan, side: int, loss: Callable[[ExampleBatch], Tensor], optimizers: Sequence[AdamW]
) -> Step:
    """Make a function that does one update, from the losses of several batches."""

    def step(number: int, rng: np.random.Generator) -> Tensor:
        losses = []
        for _ in range(plan.accumulation):
            share = loss(examples.batch(plan.batch_size, side, rng, turn=plan.turn)) / plan.accumulation
            share.backward()
            losses.append(share.detach())
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return torch.stack(losses).sum()

    return step


def _solver(model: StableDiffusion, plan: SeasPlan) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    # The last step of the authors' version of diffusers does the same.
    solver = DPMSolverMultistepScheduler.from_config(model.schedule.config, final_sigmas_type="sigma_min")
    solver.set_timesteps(plan.sampling_steps, device=model.device)
    return solver


def _prompts_of(batch: ExampleBatch) -> list[str]:
    good = len(batch.images) - len(batch.masks)
    return [*map(prompts.defect_prompt, batch.types), *[prompts.good_prompt()] * good]
