"""Losses of SeaS, which tie the words of the defect to its mask and the word of the part to the rest."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1e-5
"""Least distance of probabilities from 0 and 1 in the authors' focal loss."""


def decoupled_alignment(
    maps: Mapping[int, Tensor], masks: Tensor, latent_side: int, normal: int, anomalous: slice
) -> Tensor:
    """Compute the decoupled anomaly alignment loss: defect words attend to the mask, the part's word elsewhere.

    `maps`: maps of images with a defect, see `CrossAttentionMaps.maps`.
    `masks` (Tensor of shape (n, 1, h, w)): 1 on the defect.
    `latent_side`: side of the latents.
    `normal`: place of the part's word in the prompt.
    `anomalous`: places of the defect's words.
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
    """Scale to 0..1 over the whole batch, as in the authors' code."""
    return (x - x.min()) / (x.max() - x.min())


def noise_losses(predicted: Tensor, noise: Tensor) -> Tensor:
    """Compute the noise losses of images with a defect and, with equal weight, of good images (normal alignment).

    `predicted`, `noise` (Tensor of shape (2 n, c, h, w)): noise of images with a defect, then of as many good images.
    """
    pairs = zip(predicted.chunk(2), noise.chunk(2), strict=True)
    return torch.stack([F.mse_loss(found, wanted) for found, wanted in pairs]).sum()


def focal_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Compute the focal loss of the masks, gamma 2, as in the authors' code.

    `probabilities` (Tensor of shape (n, 2, h, w)): probabilities of good and of defect.
    `masks` (Tensor of shape (n, 1, h, w)): masks; values below 1 count as good.
    """
    defect = masks >= 1
    p = torch.where(defect, probabilities[:, 1:], probabilities[:, :1])
    p = (1 - SMOOTH) * p + SMOOTH * (1 - p) + SMOOTH
    return -((1 - p).square() * p.log()).mean()
