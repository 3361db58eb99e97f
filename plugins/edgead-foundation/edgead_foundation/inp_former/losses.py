"""Losses of INP-Former (arXiv 2503.02424, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from edgead_foundation.inp_former.reconstruction import distances

HARDNESS = 3.0
COHERENCE_WEIGHT = 0.2


def coherence_loss(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """Compute the mean cosine distance of tokens (n, t, d) to the nearest prototype (n, p, d) of their image."""
    cosine = F.cosine_similarity(tokens[:, :, None], prototypes[:, None], dim=-1)
    return (1 - cosine).amin(dim=2).mean()


def soft_mining_loss(taught: Sequence[Tensor], made: Sequence[Tensor], hardness: float = HARDNESS) -> Tensor:
    """Compute the cosine loss of whole images with gradients weighted towards tokens that are hard to reconstruct.

    The value equals the plain cosine loss. The gradient that reaches a token is multiplied by (the token's distance
    over the mean distance in the batch), to the power of `hardness`.

    `taught`, `made` (sequence of Tensor of shape (n, t, d)): tokens of each group; the gradient flows into `made`,
        which must require a gradient.
    Returns scalar, the mean over the groups.
    """
    total = made[0].new_zeros(())
    for target, x in zip(taught, made, strict=True):
        far = distances(target, x).detach()
        factor = ((far / far.mean()) ** hardness)[..., None]
        total = total + (1 - F.cosine_similarity(target.flatten(1), x.flatten(1))).mean()
        x.register_hook(lambda gradient, factor=factor: gradient * factor)
    return total / len(made)
