"""AnoGen: learns a word from three images of a defect, and with it makes new defects in boxes on good parts.

The authors' code uses the text-to-image model of latent diffusion (256 px); this module takes any Stable Diffusion,
whose text encoder the authors' code supports too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.workstation.trainer.checkpoint import Checkpoint, Learner
from edgead.workstation.trainer.loop import descend, run_steps
from edgead_diffusion.anogen_sampling import Blending, masked_noise_loss
from edgead_diffusion.examples import Examples
from edgead_diffusion.stable_diffusion import StableDiffusion, middle, to_images, to_tensor

WORD = "*"
BEGINS_AS = "defect"
TEMPLATES = tuple(
    f"{article} {kind} of {what} {WORD}"
    for article, kind in (("a", "photo"), ("a", "cropped photo"), ("a", "close-up photo"), ("a", "good photo"))
    for what in ("a", "the", "one", "a clean", "a dirty", "a small", "a large", "a weird", "my")
)
"""Prompts of the training: some of those of textual inversion."""


@dataclass(frozen=True, slots=True)
class AnogenPlan:
    """Settings of AnoGen's training and sampling; the defaults are those of the authors' code.

    `rate`: learning rate of AdamW: 0.005, as the authors set it, times the size of a batch.
    """

    steps: int = 6100
    batch_size: int = 4
    rate: float = 0.02
    sampling_steps: int = 50
    guidance: float = 10.0
    seed: int = 0


class WordVector(nn.Module):
    """Learnable embedding of one new word, initialised with the embedding of a known word."""

    def __init__(self, model: StableDiffusion):
        super().__init__()
        token, known = (_single_token(model, word) for word in (WORD, BEGINS_AS))
        self.token = token
        self.vector = nn.Parameter(model.text_encoder.get_input_embeddings().weight[known].detach().clone())

    @contextmanager
    def spoken(self, model: StableDiffusion) -> Iterator[None]:
        """Make a context in which the model's text encoder knows the word."""

        def replace(module: nn.Module, given: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
            return torch.where((given[0] == self.token)[..., None], self.vector, embedded)

        hook = model.text_encoder.get_input_embeddings().register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()


def learn_word(
    model: StableDiffusion,
    examples: Examples,
    plan: AnogenPlan,
    *,
    checkpoint: Checkpoint | None = None,
    progress: StageProgress = no_progress,
) -> WordVector:
    """Learn the embedding of a new word that stands for one type of defect; the model is not changed.

    Raises SettingsError: the examples have more than one type of defect, or the loss is not finite.
    """
    if examples.number_of_types > 1:
        raise SettingsError(
            f"found {examples.number_of_types} types of defect: AnoGen learns a word for each by itself"
        )
    word = WordVector(model).to(model.device)
    optimizer = AdamW(word.parameters(), lr=plan.rate)

    def step(number: int, rng: np.random.Generator) -> Tensor:
        return descend(word_loss(model, word, examples, plan, rng), optimizer)

    learner = Learner(word, [optimizer], "anogen")
    run_steps(step, learner, plan.steps, seed=plan.seed, checkpoint=checkpoint, progress=progress)
    return word


def word_loss(
    model: StableDiffusion, word: WordVector, examples: Examples, plan: AnogenPlan, rng: np.random.Generator
) -> Tensor:
    """Compute the loss of one batch: the error of the noise predicted inside the defects, for prompts with the word."""
    batch = examples.batch(plan.batch_size, model.side, rng, turn=False)
    images, masks = batch.images[: len(batch.masks)], batch.masks
    flipped = torch.from_numpy(rng.random(len(images)) < 0.5)[:, None, None, None]
    images, masks = (torch.where(flipped, x.flip(-1), x) for x in (images, masks))
    noisy, noise, steps = model.add_noise(model.encode(images))
    with word.spoken(model):
        words = model.words(rng.choice(TEMPLATES, len(images)).tolist())
    predicted = model.unet(noisy, steps, words).sample
    return masked_noise_loss(predicted, noise, masks.to(model.device))


@torch.inference_mode()
def make_defects(
    model: StableDiffusion, word: WordVector, good: Sequence[np.ndarray], boxes: Sequence[np.ndarray], plan: AnogenPlan
) -> list[np.ndarray]:
    """Make a defect in the box of each good part.

    `good`: sequence of ndarray of shape (h, w, 3), uint8, BGR.
    `boxes` (sequence of ndarray of shape (h', w'), uint8): masks of the boxes for defects, see `anogen_boxes`; the box
        is the made defect's mask, which the defect need not fill.
    Returns list of ndarray of shape (side, side, 3), uint8, BGR.
    """
    side = model.side
    generator = torch.Generator(model.device).manual_seed(plan.seed)
    with word.spoken(model):
        words = model.words([""] * len(good)), model.words([WORD] * len(good))
    latents = model.encode(torch.stack([to_tensor(image, side) for image in good]), generator)
    inside = torch.stack([torch.from_numpy(middle((box > 0).astype(np.float32), side))[None] for box in boxes])

    def predict(x: Tensor, steps: Tensor, conditions: Tensor) -> Tensor:
        return model.unet(x, steps, conditions).sample

    def noise(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, device=x.device)

    blending = Blending(model.schedule.alphas_cumprod.to(model.device), plan.sampling_steps, plan.guidance)
    made = blending.sample(predict, words, latents, inside.to(model.device), noise)
    return to_images(model.decode(made))


def _single_token(model: StableDiffusion, word: str) -> int:
    tokens: Any = model.tokenizer.encode(word, add_special_tokens=False)
    if len(tokens) != 1:
        raise SettingsError(f"the tokenizer has {len(tokens)} tokens for {word!r} instead of one: give another model")
    return int(tokens[0])
