"""Multi-scale gradient magnitude similarity, by which an image and its reconstruction are compared.

Xue et al. 2014 for one scale; Zavrtanik et al. 2021 (RIAD) for the mean over scales: EAR's loss and map are so.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.workstation.methods.draem.networks import structural_similarity

SCALES = 4
CONSTANT = 0.0026
"""Of Xue et al., for values in 0..1."""
_TINY = 1e-12
"""Keeps the gradient of a root finite."""


def msgms_distance(a: Tensor, b: Tensor) -> Tensor:
    """One minus the similarity of the gradients' magnitudes around each pixel, over channels and scales.

    Parameters
    ----------
    a, b : Tensor of shape (n, c, h, w), float
        In 0..1; sides are multiples of 2 ** (SCALES - 1). Beyond the border lies 0, in both.

    Returns
    -------
    Tensor of shape (n, h, w)
        From 0 to 1.
    """
    side, total = a.shape[-2:], torch.zeros_like(a[:, :1])
    for scale in range(SCALES):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        found = _gms_distance(a, b).mean(dim=1, keepdim=True)
        total = total + (F.interpolate(found, size=side, mode="bilinear", align_corners=False) if scale else found)
    return (total / SCALES)[:, 0]


def _gms_distance(a: Tensor, b: Tensor) -> Tensor:
    magnitude_a, magnitude_b = gradient_magnitude(a), gradient_magnitude(b)
    # 1 - (2 a b + c) / (a^2 + b^2 + c), written so that what is alike is exactly 0.
    return (magnitude_a - magnitude_b).square() / (magnitude_a.square() + magnitude_b.square() + CONSTANT)


def gradient_magnitude(x: Tensor) -> Tensor:
    """Length of the gradient by Prewitt's filters, of each channel alone; of the shape of `x`, (n, c, h, w)."""
    channels = x.shape[1]
    across = torch.tensor([1.0, 0.0, -1.0], dtype=x.dtype, device=x.device).expand(3, 3) / 3
    filters = torch.stack([across, across.mT])[:, None].repeat(channels, 1, 1, 1)
    gradients = F.conv2d(x, filters, padding=1, groups=channels).unflatten(1, (channels, 2))
    return (gradients.square().sum(dim=2) + _TINY).sqrt()


def inpainting_loss(image: Tensor, rebuilt: Tensor) -> Tensor:
    """Mean squared difference, 1 - SSIM and the multi-scale distance, with equal weights as in RIAD; one number."""
    squared = F.mse_loss(rebuilt, image)
    return squared + (1 - structural_similarity(image, rebuilt)).mean() + msgms_distance(image, rebuilt).mean()
