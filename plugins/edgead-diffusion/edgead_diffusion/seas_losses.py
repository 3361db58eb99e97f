"""The losses of SeaS: a word for the part, words for its defect, each held to its place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1e-5
"""What the authors' focal loss keeps probabilities from 0 and 1 by."""


def decoupled_alignment(
    maps: Mapping[int, Tensor], masks: Tensor, latent_side: int, normal: int, anomalous: slice
) -> Tensor:
    """The decoupled anomaly alignment loss: the words of the defect look at the mask, that of the part elsewhere.

    Parameters
    ----------
    maps : mapping of Tensor
        Of images with a defect, see `CrossAttentionMaps.maps`.
    masks : Tensor of shape (n, 1, h, w)
        1 where the defect is.
    latent_side : int
        Side of the latents.
    normal : int
        Place of the part's word in the prompt.
    anomalous : slice
        Places of the defect's words.
    """
    target = F.interpolate(masks, size=(latent_side, latent_side), mode="bilinear", align_corners=False)
    loss = target.new_zeros(())
    for divisor in sorted(maps):
        pooled = F.max_pool2d(target, divisor)
        part = _stretch(maps[divisor][:, normal])[:, None]
        defect = _stretch(maps[divisor][:, anomalous].mean(dim=1))[:, None]
        loss = loss + F.mse_loss(defect, pooled)
        inside = pooled == 1
        if inside.any():  # a defect smaller than a latent pixel has no inside
            loss = loss + part[inside].square().mean()
    return loss


def _stretch(x: Tensor) -> Tensor:
    """To 0..1 over the whole batch, as in the authors' code."""
    return (x - x.min()) / (x.max() - x.min())


def noise_losses(predicted: Tensor, noise: Tensor) -> Tensor:
    """Noise of images with a defect, and with the same weight that of good ones: normal alignment.

    Parameters
    ----------
    predicted, noise : Tensor of shape (2 n, c, h, w)
        Of images with a defect, then of as many good ones.
    """
    pairs = zip(predicted.chunk(2), noise.chunk(2), strict=True)
    return torch.stack([F.mse_loss(found, wanted) for found, wanted in pairs]).sum()


def focal_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Focal loss of the masks, gamma 2, as in the authors' code.

    Parameters
    ----------
    probabilities : Tensor of shape (n, 2, h, w)
        Of good and of defect.
    masks : Tensor of shape (n, 1, h, w)
        What is not quite 1 counts as good.
    """
    defect = masks >= 1
    p = torch.where(defect, probabilities[:, 1:], probabilities[:, :1])
    p = (1 - SMOOTH) * p + SMOOTH * (1 - p) + SMOOTH
    return -((1 - p).square() * p.log()).mean()
