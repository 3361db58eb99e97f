"""Losses of MemoryOut, beside the squared error of the predicted frame."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def semantic_error(found: Tensor, features: Tensor) -> Tensor:
    """1 - cosine of semantic features (n, c) and what was made of them; (n,)."""
    return 1 - F.cosine_similarity(found, features, dim=1)


def motion_loss(predicted: Tensor, frame: Tensor, last: Tensor) -> Tensor:
    """Mean of what the prediction is farther, in squares, from the frame that came than from the last one seen.

    A prediction that shows no motion pays for it, and one on the far side of what came pays nothing. All are
    (n, c, h, w).
    """
    return ((predicted - frame) ** 2 - (predicted - last) ** 2).clamp(min=0).mean()
