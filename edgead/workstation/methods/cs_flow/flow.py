"""A normalising flow over feature maps of several scales: fully convolutional coupling blocks that the scales share.

Rudolph, Wehrbein, Rosenhahn, Wandt, "Fully Convolutional Cross-Scale-Flows for Image-based Defect Detection", WACV 2022
(arXiv 2110.02855). It begins with features without mean and correlation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.workstation.methods.mvg.gaussian import ledoit_wolf_shrinkage

# Directions of the features with less than this share of a channel's variance are not made louder than that.
MIN_VARIANCE = 1e-3
# Negative slope of the hidden activations, as in the authors' code.
SLOPE = 0.1


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


@dataclass(frozen=True)
class FlowShape:
    """What the blocks of a flow have in common.

    Attributes
    ----------
    scales, channels : int
        Feature maps, and the channels of each.
    hidden : int
        Channels inside the coupling blocks.
    clamp : float
        The alpha of the paper's soft clamping: no logarithm of a scale is larger.
    enlarge_first : bool
        Whether a coarser scale is enlarged before its convolution, as in the authors' code. After it costs a quarter.
    """

    scales: int
    channels: int
    hidden: int
    clamp: float = 3.0
    enlarge_first: bool = True


class CrossConvolutions(nn.Module):
    """The network inside a coupling: two convolutions at each scale, and what neighbouring scales add to the second.

    Parameters
    ----------
    shape : FlowShape
    inputs, outputs : int
        Channels.
    kernel : int
        Side of every convolution.
    """

    def __init__(self, shape: FlowShape, inputs: int, outputs: int, kernel: int):
        super().__init__()
        self.enlarge_first = shape.enlarge_first

        def convolutions(count: int, inputs: int, width: int, stride: int = 1) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv2d(inputs, width, kernel, stride=stride, padding=kernel // 2) for _ in range(count)
            )

        self.into = convolutions(shape.scales, inputs, shape.hidden)
        self.out = convolutions(shape.scales, shape.hidden, outputs)
        self.up = convolutions(shape.scales - 1, shape.hidden, outputs)
        self.down = convolutions(shape.scales - 1, shape.hidden, outputs, stride=2)
        self.gain = nn.Parameter(torch.zeros(shape.scales))  # the paper's gamma: the flow begins as the identity

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (n, channels, h, w), finest first, each half the size of the one before -> (n, outputs, h, w) each."""
        hidden = [F.leaky_relu(convolution(x), SLOPE) for convolution, x in zip(self.into, maps, strict=True)]
        results = [convolution(x) for convolution, x in zip(self.out, hidden, strict=True)]
        for fine, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            coarse = hidden[fine + 1]
            results[fine] = results[fine] + (up(enlarge(coarse)) if self.enlarge_first else enlarge(up(coarse)))
            results[fine + 1] = results[fine + 1] + down(hidden[fine])
        return [x * self.gain[scale] for scale, x in enumerate(results)]


class Coupling(nn.Module):
    """An affine coupling block: the channels are shuffled, then each half is scaled and shifted by what the other says.

    Parameters
    ----------
    shape : FlowShape
    kernel : int
        Side of every convolution.
    generator : Generator
        Draws the fixed permutation of the channels of each scale.
    """

    def __init__(self, shape: FlowShape, kernel: int, generator: torch.Generator):
        super().__init__()
        self.clamp = shape.clamp
        self.split_at = shape.channels // 2
        rest = shape.channels - self.split_at
        self.first = CrossConvolutions(shape, rest, 2 * self.split_at, kernel)
        self.second = CrossConvolutions(shape, self.split_at, 2 * rest, kernel)
        for scale in range(shape.scales):
            self.register_buffer(f"order{scale}", torch.randperm(shape.channels, generator=generator))

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Maps (n, channels, h, w) -> maps of the same shapes, and the log-determinant of the Jacobian, (n,)."""
        shuffled = [x[:, self.get_buffer(f"order{scale}")] for scale, x in enumerate(maps)]
        one, other = [x[:, : self.split_at] for x in shuffled], [x[:, self.split_at :] for x in shuffled]
        one, log_first = self._transform(one, self.first(other))
        other, log_second = self._transform(other, self.second(one))
        return [torch.cat(halves, dim=1) for halves in zip(one, other, strict=True)], log_first + log_second

    def _transform(self, maps: Sequence[Tensor], parameters: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        results, logarithms = [], []
        for x, parameter in zip(maps, parameters, strict=True):
            scale, shift = parameter.chunk(2, dim=1)
            log_scale = soft_clamp(scale, self.clamp)
            results.append(x * log_scale.exp() + shift)
            logarithms.append(log_scale.flatten(1).sum(dim=1))
        return results, torch.stack(logarithms).sum(dim=0)


class CrossScaleFlow(nn.Module):
    """A chain of coupling blocks.

    Parameters
    ----------
    shape : FlowShape
    kernels : sequence of int
        Side of the convolutions of each block.
    seed : int
        Of the permutations.
    """

    def __init__(self, shape: FlowShape, kernels: Sequence[int], seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.blocks = nn.ModuleList(Coupling(shape, kernel, generator) for kernel in kernels)

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Feature maps (n, channels, h, w), finest first -> z of the same shapes, and the log-determinant, (n,)."""
        changes = []
        for block in self.blocks:
            maps, change = block(maps)
            changes.append(change)
        return maps, torch.stack(changes).sum(dim=0)


def enlarge(x: Tensor) -> Tensor:
    """Double the sides of maps (n, d, h, w)."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def soft_clamp(x: Tensor, limit: float) -> Tensor:
    """2 a / pi arctan(x / a) with a = `limit`: about x near 0, within -a and a everywhere.

    The authors' code rounds 2 / pi to 0.636, a thousandth less.
    """
    return (2 * limit / math.pi) * torch.atan(x / limit)


def negative_log_likelihood(z: Sequence[Tensor], log_determinant: Tensor) -> Tensor:
    """Loss of a batch: |z|^2 / 2 - log |det J|, up to a constant, a channel of a position; one number."""
    squares = torch.stack([x.float().square().flatten(1).sum(dim=1) for x in z]).sum(dim=0)
    dimensions = sum(x[0].numel() for x in z)
    return ((squares / 2 - log_determinant) / dimensions).mean()
