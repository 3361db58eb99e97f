"""Training loss of AnoGen's word, and sampling of a defect in a box on an otherwise unchanged good part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Function that predicts the noise in noisy latents (n, c, h, w), from their steps (n,) and the words (n, t, d)."""

Noise = Callable[[Tensor], Tensor]
"""Function that draws standard normal numbers in the shape of a given tensor."""


def masked_noise_loss(predicted: Tensor, noise: Tensor, masks: Tensor) -> Tensor:
    """Compute the error of the predicted noise within the defect, averaged over all pixels (stage 1).

    `predicted`, `noise` (Tensor of shape (n, c, h, w)): noise at the size of the latents.
    `masks` (Tensor of shape (n, 1, h', w')): 1 in the defect; pixels of the latents that it touches count fully.
    """
    overlaps = F.interpolate(masks, size=predicted.shape[-2:], mode="bilinear", align_corners=False) != 0
    return ((predicted - noise).square() * overlaps).mean()


@dataclass(frozen=True, slots=True)
class Blending:
    """Sampler of a defect (stage 2): deterministic DDIM with guidance, blended with the good part.

    `alphas` (Tensor of shape (steps,)): cumulative products of the schedule that the network was trained with.
    `steps`: number of sampling steps.
    `guidance`: scale of classifier-free guidance.
    """

    alphas: Tensor
    steps: int = 50
    guidance: float = 10.0

    def sample(self, predict: Predict, words: tuple[Tensor, Tensor], good: Tensor, box: Tensor, noise: Noise) -> Tensor:
        """Sample latents with a defect in the box.

        `words` (tuple of Tensor of shape (n, t, d)): embeddings of the empty prompt, and of the prompt.
        `good` (Tensor of shape (n, c, h, w)): latents of good parts.
        `box` (Tensor of shape (n, 1, h', w')): 1 in the box.
        Returns Tensor of shape (n, c, h, w): latents; outside the box they equal `good` after a last step of the
            network, as in the authors' code.
        """
        inside = F.interpolate(box, size=good.shape[-2:], mode="nearest-exact")
        x = noise(good)
        for step, alpha, previous in self._schedule():
            noisy = alpha.sqrt() * good + (1 - alpha).sqrt() * noise(good)
            x = noisy * (1 - inside) + inside * x
            found = self._guided(predict, x, step, words)
            clean = (x - (1 - alpha).sqrt() * found) / alpha.sqrt()
            x = previous.sqrt() * clean + (1 - previous).sqrt() * found
        return x

    def _schedule(self) -> list[tuple[int, Tensor, Tensor]]:
        """List each step with the cumulative products (`alphas`) of it and of the next step, from noise to image."""
        chosen = list(range(1, len(self.alphas) + 1, len(self.alphas) // self.steps))
        previous = [0, *chosen[:-1]]
        return [(t, self.alphas[t], self.alphas[p]) for t, p in zip(reversed(chosen), reversed(previous), strict=True)]

    def _guided(self, predict: Predict, x: Tensor, step: int, words: tuple[Tensor, Tensor]) -> Tensor:
        steps = torch.full((2 * len(x),), step, device=x.device)
        without, with_words = predict(torch.cat([x, x]), steps, torch.cat(words)).chunk(2)
        return without + self.guidance * (with_words - without)
