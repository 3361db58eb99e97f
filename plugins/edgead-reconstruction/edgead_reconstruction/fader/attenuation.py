"""Gates of FADeR (Park et al., arXiv 2407.04597): two layers give the share of a feature that is replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NARROWED = 4
"""Divisor of the channels between the two layers."""
OPEN = 3.0
"""Bias of an untrained gate, which passes 95 %."""
DEFECT_WEIGHT, RECONSTRUCTION_WEIGHT = 5.0, 0.1
"""Weights in the loss of gates: of a place to be attenuated, and of the resulting reconstruction."""


class Attenuation(nn.Module):
    """Gate that gives a f + (1 - a) u at each place: f are the features, two layers compute a from f, u is the usual f.

    `channels`: channels of the features.
    """

    usual: Tensor

    def __init__(self, channels: int):
        super().__init__()
        narrow = max(1, channels // NARROWED)
        self.layers = nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(inplace=True), nn.Conv2d(narrow, 1, 1))
        self.register_buffer("usual", torch.zeros(1, channels, 1, 1))
        with torch.no_grad():
            self.layers[2].bias.fill_(OPEN)  # type: ignore[union-attr, operator]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, c, h, w) -> attenuated features, and the logits of a, (n, 1, h, w)."""
        logits = self.layers(features)
        return self.usual + torch.sigmoid(logits) * (features - self.usual), logits


@torch.no_grad()
def fit_usual(
    gates: Sequence[Attenuation], features: Callable[[Tensor], list[Tensor]], batches: Sequence[Tensor]
) -> None:
    """Set each gate's usual value to the mean over good images, given in batches of equal size."""
    for gate in gates:
        gate.usual.zero_()
    for batch in batches:
        for gate, found in zip(gates, features(batch), strict=True):
            gate.usual += found.mean(dim=(0, 2, 3), keepdim=True) / len(batches)


def gate_targets(error: Tensor, limit: float, grids: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Return each gate's targets: 0 (block) at places with a badly reconstructed pixel, 1 (pass) elsewhere.

    `error` (Tensor of shape (n, h, w)): difference of a reconstruction from the good image.
    `limit`: error above which a pixel counts as badly reconstructed; few pixels of good images exceed it.
    `grids`: rows and columns of each gate, which divide h and w.
    Returns list of Tensor of shape (n, 1, rows, columns).
    """
    bad = (error > limit).float()[:, None]
    return [1 - F.max_pool2d(bad, bad.shape[-1] // columns) for _, columns in grids]


def gate_loss(logits: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Return the scalar cross-entropy of the gates, averaged over places and gates; places to attenuate weigh more."""
    losses = [
        F.binary_cross_entropy_with_logits(found, target, weight=1 + (DEFECT_WEIGHT - 1) * (1 - target))
        for found, target in zip(logits, targets, strict=True)
    ]
    return torch.stack(losses).mean()
