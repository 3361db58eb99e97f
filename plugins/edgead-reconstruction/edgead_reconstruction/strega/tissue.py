"""Tissue classes of a slice, within the graph; ours, in the place of FSL's FAST, which the authors run before.

As FAST does, it fits a mixture of Gaussians to the intensities and says by what share a pixel is of each class. It has
neither FAST's random field nor its correction of an uneven field.
"""

from __future__ import annotations

import torch
from torch import Tensor

CLASSES, ROUNDS = 3, 12
"""FAST's classes of a brain: fluid, grey and white matter; rounds of expectation and maximisation."""
STEP = 4
"""Every so many-th row and column is looked at to fit the mixture."""
_LEAST_VARIANCE = 1e-4


def tissue_map(slices: Tensor) -> Tensor:
    """Slices (n, 1, h, w) in 0..1 -> the mean class of each pixel in parts of `CLASSES`, 0 where a slice is 0.

    Classes are numbered by their intensity from 1, so that pixels of the brightest are 1. A pixel between two classes
    is between their numbers, which keeps the map from jumping where a runtime rounds otherwise.
    """
    seen = slices[..., ::STEP, ::STEP].flatten(1)[:, None]
    inside = (seen > 0).to(slices.dtype)
    count = inside.sum(dim=2, keepdim=True).clamp(min=1)
    mean = (seen * inside).sum(dim=2, keepdim=True) / count
    spread = (((seen - mean).square() * inside).sum(dim=2, keepdim=True) / count + _LEAST_VARIANCE).sqrt()
    # Begun around the mean, at -1, 0 and 1 deviations, with a third of the deviation each.
    offsets = torch.linspace(-1, 1, CLASSES, dtype=slices.dtype, device=slices.device)[:, None]
    means, variance = mean + spread * offsets, (spread / CLASSES).square()
    for _ in range(ROUNDS):
        shares = _shares(seen, means, variance) * inside
        weight = shares.sum(dim=2, keepdim=True) + _LEAST_VARIANCE
        means = (shares * seen).sum(dim=2, keepdim=True) / weight
        missed = (shares * (seen - means).square()).sum(dim=(1, 2), keepdim=True)
        variance = missed / count + _LEAST_VARIANCE
    shares = _shares(slices.flatten(1)[:, None], means, variance)
    numbers = torch.arange(1, CLASSES + 1, dtype=slices.dtype, device=slices.device)[:, None] / CLASSES
    mapped = (shares * numbers).sum(dim=1).reshape(slices.shape)
    return torch.where(slices > 0, mapped, torch.zeros_like(mapped))


def _shares(values: Tensor, means: Tensor, variance: Tensor) -> Tensor:
    """Shares of the classes in each value: (n, 1, p), (n, k, 1), (n, 1, 1) -> (n, k, p); classes are as frequent."""
    return torch.softmax((values - means).square() / (-2 * variance), dim=1)
