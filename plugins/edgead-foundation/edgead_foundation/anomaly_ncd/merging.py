"""Vote of an image's crops for its kind, weighted by the size of their regions."""

from __future__ import annotations

import torch
from torch import Tensor

from edgead_foundation.anomaly_ncd.losses import STUDENT_TEMPERATURE


def kind_probabilities(logits: Tensor, base: int) -> Tensor:
    """Convert logits of crops (n, base + kinds) to probabilities of kinds (n, kinds)."""
    return torch.softmax(logits[:, base:] / STUDENT_TEMPERATURE, dim=-1)


def merge_regions(probabilities: Tensor, areas: Tensor, temperature: float) -> Tensor:
    """Average the kind probabilities of one image's crops, weighted by the size of their regions (section 3.5).

    `probabilities`: Tensor of shape (crops, kinds).
    `areas` (Tensor of shape (crops,)): pixels of the regions of each crop.
    `temperature`: temperature in pixels of the softmax over square roots of areas: 100 for MVTec AD, 50 for magnetic
        tiles.
    Returns Tensor of shape (kinds,).
    """
    weights = torch.softmax(areas.to(probabilities.dtype).sqrt() / temperature, dim=0)
    return weights @ probabilities
