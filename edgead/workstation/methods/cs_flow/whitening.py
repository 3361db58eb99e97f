"""Features without mean and correlation: what a normalising flow begins with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgead.workstation.methods.mvg.gaussian import ledoit_wolf_shrinkage

# Directions of the features with less than this share of a channel's variance are not made louder than that.
MIN_VARIANCE = 1e-3


class Whitening(nn.Module):
    """Takes away the mean of the features' channels, and what correlation they have at a position.

    A fixed and invertible first layer of the flow, which is ours: the flow need not learn what a covariance shows.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("matrix", torch.eye(channels))

    def forward(self, level: Tensor) -> Tensor:
        """Features (n, d, h, w) -> whitened ones, (n, d, h, w)."""
        return ((level.permute(0, 2, 3, 1) - self.mean) @ self.matrix).permute(0, 3, 1, 2)

    def fit(self, samples: Tensor) -> None:
        """Learn from features of good parts, float32 (n, d)."""
        exact = samples.double()
        mean, deviation = exact.mean(dim=0), exact.std(dim=0, unbiased=False)
        # A channel that never changes has nothing to be measured by.
        inverse = torch.where(deviation > 0, deviation.reciprocal(), 0.0)
        scaled = (exact - mean) * inverse
        variances, directions = torch.linalg.eigh(scaled.T @ scaled / len(scaled))
        shrinkage = ledoit_wolf_shrinkage(scaled.square().sum(dim=1), variances)  # a few parts have few positions
        shrunk = ((1 - shrinkage) * variances + shrinkage).clamp_min(MIN_VARIANCE)
        self.mean.copy_(mean)
        self.matrix.copy_(inverse[:, None] * directions * shrunk.rsqrt())
