"""Network and training of SimpleNet (Liu et al. 2023, sections 3.1 to 3.6), as in the authors' code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from edgead.workstation.methods.patchcore.network import PatchFeatures


class SimpleNetwork(nn.Module):
    """Feature extractor, feature adaptor and discriminator (sections 3.1, 3.2 and 3.4), exported as it stands."""

    def __init__(self, features: PatchFeatures, hidden: int):
        super().__init__()
        channels = features.mean.numel()
        self.features = features
        self.adaptor = nn.Linear(channels, channels)
        self.discriminator = nn.Sequential(
            nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1, bias=False)
        )

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> patch scores, the negated discriminator (section 3.6), float32 (n, h', w')."""
        features = self.features(image)
        return self.score(features.flatten(0, 2)).reshape(features.shape[:3])

    def score(self, features: Tensor) -> Tensor:
        """Patch features, float32 (n, d) -> scores, float32 (n, 1)."""
        return -self.discriminator(self.adaptor(features))


@dataclass(frozen=True, slots=True)
class Batches:
    """Which rows each step learns from: an epoch goes through all of them, in an order of its own.

    Attributes
    ----------
    rows : int
        Rows to learn from.
    size : int
        Rows of a step; the last batch of an epoch may have fewer, but not one alone, which has no deviation.
    together : int
        So many rows in a row are never separated: those of one image, where a batch is whole images.
    seed : int
    """

    rows: int
    size: int
    together: int
    seed: int

    @property
    def per_epoch(self) -> int:
        return max(1, math.ceil((self.rows - 1) / self.size))

    def of(self, step: int) -> Tensor:
        """Rows of a step that is counted from 0, int64."""
        epoch, position = divmod(step, self.per_epoch)
        end = self.rows if position + 1 == self.per_epoch else (position + 1) * self.size
        return torch.from_numpy(_order(self, epoch)[position * self.size : end])


@lru_cache(maxsize=1)
def _order(batches: Batches, epoch: int) -> np.ndarray:
    blocks = np.random.default_rng([batches.seed, epoch]).permutation(batches.rows // batches.together)
    return (blocks[:, None] * batches.together + np.arange(batches.together)).ravel()


@dataclass(frozen=True, slots=True)
class Contest:
    """What adaptor and discriminator are trained to do: adapted features against the same with noise.

    Attributes
    ----------
    adaptor, discriminator : nn.Module
    noise_std, noise_spread, margin : float
        See `edgead.workstation.methods.simplenet.detector.SimpleNetConfig`.
    """

    adaptor: nn.Module
    discriminator: nn.Module
    noise_std: float
    noise_spread: float
    margin: float

    def optimizers(self, adaptor_lr: float, discriminator_lr: float, weight_decay: float) -> list[Optimizer]:
        """The authors' code has AdamW with its own decay, 0.01, for the adaptor, and Adam for the discriminator."""
        return [
            torch.optim.AdamW(self.adaptor.parameters(), lr=adaptor_lr),
            torch.optim.Adam(self.discriminator.parameters(), lr=discriminator_lr, weight_decay=weight_decay),
        ]

    def loss(self, features: Tensor) -> Tensor:
        """The loss of good features, float32 (n, d)."""
        good = self.adaptor(features)
        # One batch: the batch norm sees both.
        scores = self.discriminator(torch.cat([good, add_noise(good, self.noise_std, self.noise_spread)]))
        return truncated_l1(scores[: len(good)], scores[len(good) :], self.margin)

    def update(self, features: Tensor, optimizers: Sequence[Optimizer]) -> Tensor:
        """Make one update from good features, float32 (n, d); returns its loss."""
        loss = self.loss(features)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss


def add_noise(features: Tensor, std: float, spread: float = 1.0) -> Tensor:
    """Make anomalous features from good ones, float32 (n, d): Gaussian noise on every channel (section 3.3).

    With a `spread`, which is ours, the noise of each patch is quieter by a factor between 1 and that, evenly in its
    logarithm: the quiet ones stay hard to separate from good patches, and so something is always left to learn.
    """
    if spread == 1:
        return features + std * torch.randn_like(features)
    return features + std * spread ** -torch.rand_like(features[:, :1]) * torch.randn_like(features)


def truncated_l1(good: Tensor, anomalous: Tensor, margin: float) -> Tensor:
    """Mean truncated L1 loss (section 3.5) of the discriminator's outputs: nothing is gained beyond the margins.

    max(0, th+ - D(q)) + max(0, -th- + D(q-)), with th+ = `margin` and th- = -`margin`.
    """
    return (margin - good).clamp_min(0).mean() + (margin + anomalous).clamp_min(0).mean()


def running_mean(trained: nn.Module, decay: float) -> AveragedModel:
    """The mean of a module's weights and running statistics over its updates: the last ones count most.

    The first updates, from random weights, are forgotten faster; a decay of 0 takes the last weights.
    """

    def average(mean: Tensor, latest: Tensor, count: Tensor | int) -> Tensor:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        return kept * mean + (1 - kept) * latest

    return AveragedModel(trained, avg_fn=average, use_buffers=True)
