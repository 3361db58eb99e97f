"""Losses of StRegA, and the squares of noise that are put on slices for the second term of the loss.

Losses are means, where papers on variational autoencoders have sums: the authors' code does so too.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from edgead_reconstruction.strega.network import Vae

GOAL, STEP, SPEED_UP, MEMORY = 0.1, 1e-4, 2.0, 0.9
"""Constants of GECO: goal of the error, speed of the weight, factor of that speed above the goal, and the share that
the running mean of errors keeps at each step."""
LEAST, LARGEST = 1e-10, 1e4
MOST_SQUARES = 3
"""Exclusive upper limit: a slice has at most two squares; see `noise_squares`."""


class RandomSource(Protocol):
    """Source of the random numbers of squares, such as a numpy generator."""

    def uniform(self, low: float, high: float) -> float: ...

    def integers(self, low: int, high: int) -> int: ...


def kl_divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the mean divergence of the codes from a standard normal distribution, a scalar."""
    return (0.5 * ((2 * log_std).exp() + mean.square() - 1) - log_std).mean()


def absolute_error(rebuilt: Tensor, slices: Tensor) -> Tensor:
    """Return the mean absolute difference, a scalar."""
    return (rebuilt - slices).abs().mean()


def rebuild(vae: Vae, slices: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruct slices from a code sampled with standard normal noise; return also its mean and log deviation."""
    mean, log_std = vae.encode(slices)
    return vae.decode(mean + log_std.exp() * noise), mean, log_std


def total_loss(
    vae: Vae,
    slices: Tensor,
    squared: Tensor,
    noises: tuple[Tensor, Tensor],
    *,
    theta: Tensor,
    beta: float,
    share: float,
) -> tuple[Tensor, Tensor]:
    """Return (1 - f)(beta KL + theta L1) + f L1', f = `share`, and L1; L1' is L1 of slices with squares of noise.

    `slices`, `squared` (Tensor of shape (n, 1, h, w)): slices in 0..1, and the same slices with squares of noise.
    `noises` (pair of Tensor of shape (n, latent, 1, 1)): standard normal numbers, one tensor for each of the two.
    `theta`: weight of the reconstruction, as adapted by `Geco`; a scalar.
    """
    rebuilt, mean, log_std = rebuild(vae, slices, noises[0])
    error = absolute_error(rebuilt, slices)
    of_vae = kl_divergence(mean, log_std) * beta + error * theta
    of_context = absolute_error(rebuild(vae, squared, noises[1])[0], slices)
    return (1 - share) * of_vae + share * of_context, error


class Geco(nn.Module):
    """Weight of the reconstruction error, which grows while that error is above its goal (Rezende and Viola 2018)."""

    theta: Tensor
    mean_error: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("theta", torch.ones(()))
        self.register_buffer("mean_error", torch.full((), -1.0))  # negative before the first step

    @torch.no_grad()
    def update(self, error: Tensor) -> None:
        """Update the running mean of the error, and the weight, by the error of a step."""
        first = self.mean_error < 0
        self.mean_error.copy_(torch.where(first, error, (1 - MEMORY) * error + MEMORY * self.mean_error))
        missed = self.mean_error - GOAL
        faster = torch.where(missed > 0, SPEED_UP * missed, missed)
        self.theta.copy_((self.theta * (STEP * faster).exp()).clamp(LEAST, LARGEST))


def noise_squares(shape: tuple[int, int, int], low: float, high: float, rng: RandomSource) -> np.ndarray:
    """Draw squares of one random value each for slices of `shape` (n, h, w); float64, 0 outside squares.

    As in the authors' code, a slice gets up to two squares of one size, at most half of the longer side; the second
    erases the first.

    `low`, `high`: smallest and largest value of the slices.
    """
    count, height, width = shape
    squares = np.zeros(shape)
    for square in squares:
        side = int(rng.uniform(0, max(height, width) // 2))
        for _ in range(int(rng.uniform(0, MOST_SQUARES))):
            left, top = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
            square[:] = 0
            square[top : top + side, left : left + side] = rng.uniform(low, high) if low < high else low
    return squares


def put_on(slices: Tensor, squares: Tensor) -> Tensor:
    """Put squares (n, h, w) on slices (n, 1, h, w); a square of value 0 changes nothing, as in the authors' code."""
    return torch.where(squares[:, None] != 0, squares[:, None], slices)
