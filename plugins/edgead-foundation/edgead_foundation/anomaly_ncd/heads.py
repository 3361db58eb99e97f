"""Heads on the features of a crop, as in SimGCD and UNO: several classifiers and a contrastive projection."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN, CONTRAST = 2048, 256


class KindHeads(nn.Module):
    """Several cosine classifiers of the same features, and a projection for contrastive learning.

    `channels`: channels of the features.
    `classes`: number of classes: base classes (known kinds of other products), then kinds to find.
    `heads`: number of classifiers with different initial weights; the best is used.
    `hidden`, `contrast`: channels inside the projection and of its output.
    """

    def __init__(self, channels: int, classes: int, heads: int = 4, hidden: int = HIDDEN, contrast: int = CONTRAST):
        super().__init__()
        self.projection = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, contrast)
        )
        for layer in self.projection:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.ParameterList(torch.empty(classes, channels) for _ in range(heads))
        for prototypes in self.prototypes:
            nn.init.kaiming_uniform_(prototypes, a=math.sqrt(5))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, d) -> projection (n, contrast), and logits: cosines with each prototype, (heads, n, classes)."""
        directions = F.normalize(features, dim=-1)
        logits = torch.stack([directions @ F.normalize(x, dim=-1).T for x in self.prototypes])
        return self.projection(features), logits
