"""Tissue classes of a slice, computed within the graph instead of by FSL's FAST, which the authors run first.

Like FAST, it fits a mixture of Gaussians to the intensities and gives each pixel's share of each class. It lacks FAST's
random field and correction of an uneven field.
"""

from __future__ import annotations

import torch
from torch import Tensor

CLASSES, ROUNDS = 3, 12
"""FAST's number of classes of a brain (fluid, grey and white matter), and rounds of expectation and maximisation."""
STEP = 4
"""Step between the rows and columns of pixels that the mixture is fitted to."""
_LEAST_VARIANCE = 1e-4


def tissue_map(slices: Tensor) -> Tensor:
    """Slices (n, 1, h, w) in 0..1 -> each pixel's mean class divided by `CLASSES`, 0 where a slice is 0.

    Classes are numbered from 1 by intensity, so that pixels of the brightest class give 1. A pixel between two classes
    gets a value between their numbers, so that the map does not jump in a runtime with other rounding.
    """
    seen = slices[..., ::STEP, ::STEP].flatten(1)[:, None]
    inside = (seen > 0).to(slices.dtype)
    count = inside.sum(dim=2, keepdim=True).clamp(min=1)
    mean = (seen * inside).sum(dim=2, keepdim=True) / count
    spread = (((seen - mean).square() * inside).sum(dim=2, keepdim=True) / count + _LEAST_VARIANCE).sqrt()
    # Gaussians start at -1, 0 and 1 deviations from the mean, each a third of the deviation wide.
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
    """Return each value's share of each class: (n, 1, p), (n, k, 1), (n, 1, 1) -> (n, k, p); equal prior of classes."""
    return torch.softmax((values - means).square() / (-2 * variance), dim=1)
