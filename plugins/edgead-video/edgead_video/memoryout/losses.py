"""Losses of MemoryOut other than the squared error of the predicted frame."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def semantic_error(found: Tensor, features: Tensor) -> Tensor:
    """Return 1 - the cosine of semantic features (n, c) and their reconstructions, (n,)."""
    return 1 - F.cosine_similarity(found, features, dim=1)


def motion_loss(predicted: Tensor, frame: Tensor, last: Tensor) -> Tensor:
    """Return how much nearer the prediction is to the last frame than to the next, at least 0; squared, averaged.

    So a prediction without motion is penalised, but not a prediction that overshoots the motion. All tensors are
    (n, c, h, w).
    """
    return ((predicted - frame) ** 2 - (predicted - last) ** 2).clamp(min=0).mean()
