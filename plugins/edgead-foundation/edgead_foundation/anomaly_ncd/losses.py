"""Losses of AnomalyNCD (section 3.4): those of SimGCD, with pseudo-labels corrected for normal crops.

A batch holds two views: its first half is one view of each crop, its second half the other.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

STUDENT_TEMPERATURE = 0.1
CONTRAST_TEMPERATURE = 0.07


def teacher_temperature(epoch: int, epochs: int, warm_up: int = 40, repeats: int = 4) -> float:
    """Temperature of the teacher: from 0.07 down to 0.04 within `warm_up` epochs, in steps of `repeats` epochs.

    This follows the authors' code with 50 epochs; shorter trainings warm up within their first four fifths.
    """
    warm_up = min(warm_up, math.ceil(0.8 * epochs))
    steps = warm_up // repeats
    if epoch >= steps * repeats:
        return 0.04
    return 0.07 + (0.04 - 0.07) * (epoch // repeats) / max(1, steps - 1)


def pseudo_labels(logits: Tensor, base: int, temperature: float, normality: Tensor) -> Tensor:
    """Compute the teacher's labels of unlabelled crops: a softmax over the kinds, mixed with the normal kind.

    `logits`: Tensor of shape (n, base + kinds).
    `base`: number of base classes, excluded for unlabelled crops; the first kind is the normal one.
    `temperature`: divides the logits: a lower one makes sharper labels.
    `normality` (Tensor of shape (n,)): weight of the normal kind in the mix, 0 to 1; high for a crop that hardly
        deviates.
    Returns Tensor of shape (n, base + kinds): probabilities without a gradient.
    """
    # Set to zero and renormalised, which equals the softmax over the kinds.
    kinds = F.softmax(logits.detach()[:, base:] / temperature, dim=-1)
    normal = F.one_hot(torch.zeros(len(kinds), dtype=torch.long, device=kinds.device), kinds.shape[1])
    weight = normality[:, None]
    return F.pad(weight * normal + (1 - weight) * kinds, (base, 0))


def cross_view_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy of each view's logits with the other view's pseudo-labels; both (2 n, classes)."""
    log_p = F.log_softmax(logits / STUDENT_TEMPERATURE, dim=-1)
    first, second = labels.chunk(2)
    return -(torch.cat([second, first]) * log_p).sum(dim=-1).mean()


def negative_entropy(logits: Tensor) -> Tensor:
    """Compute log K minus the entropy of the mean prediction over K classes; 0 if all are used equally."""
    mean = F.softmax(logits / STUDENT_TEMPERATURE, dim=-1).mean(dim=0)
    return torch.xlogy(mean, mean).sum() + math.log(len(mean))


def info_nce(projections: Tensor) -> Tensor:
    """Compute InfoNCE: each view finds the other view of its crop in the batch; temperature 1, (2 n, d)."""
    similarity = _without_self(F.normalize(projections, dim=1))
    n = len(projections) // 2
    return F.cross_entropy(similarity, torch.arange(2 * n, device=similarity.device).roll(n))


def supervised_contrast(projections: Tensor, labels: Tensor) -> Tensor:
    """Compute the supervised contrastive loss (Khosla et al. 2020) of (2 n, d) with labels (n,)."""
    similarity = _without_self(F.normalize(projections, dim=1)) / CONTRAST_TEMPERATURE
    twice = torch.cat([labels, labels])
    alike = (twice[:, None] == twice[None]) & ~torch.eye(len(twice), dtype=torch.bool, device=labels.device)
    log_p = F.log_softmax(similarity, dim=1).masked_fill(~alike, 0.0)
    return -(log_p.sum(dim=1) / alike.sum(dim=1)).mean()


def _without_self(directions: Tensor) -> Tensor:
    similarity = directions @ directions.T
    return similarity.masked_fill(torch.eye(len(similarity), dtype=torch.bool, device=similarity.device), -math.inf)
