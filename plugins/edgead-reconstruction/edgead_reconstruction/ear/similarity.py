"""Multi-scale gradient magnitude similarity, which compares an image with its reconstruction.

Xue et al. 2014 for one scale; Zavrtanik et al. 2021 (RIAD) for the mean over scales. EAR's loss and map use it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.workstation.methods.draem.networks import structural_similarity

SCALES = 4
CONSTANT = 0.0026
"""Constant of Xue et al., for values in 0..1."""
_TINY = 1e-12
"""Summand that keeps the gradient of a root finite."""


def msgms_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - the similarity of gradient magnitudes around each pixel, averaged over channels and scales.

    `a`, `b` (Tensor of shape (n, c, h, w), float): in 0..1; sides are multiples of 2 ** (SCALES - 1). Both are padded
        with 0 beyond the border.
    Returns Tensor of shape (n, h, w): from 0 to 1.
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
    # 1 - (2 a b + c) / (a^2 + b^2 + c), written so that equal gradients give exactly 0.
    return (magnitude_a - magnitude_b).square() / (magnitude_a.square() + magnitude_b.square() + CONSTANT)


def gradient_magnitude(x: Tensor) -> Tensor:
    """Return the gradient's length by Prewitt's filters, for each channel of `x` (n, c, h, w), in its shape."""
    channels = x.shape[1]
    across = torch.tensor([1.0, 0.0, -1.0], dtype=x.dtype, device=x.device).expand(3, 3) / 3
    filters = torch.stack([across, across.mT])[:, None].repeat(channels, 1, 1, 1)
    gradients = F.conv2d(x, filters, padding=1, groups=channels).unflatten(1, (channels, 2))
    return (gradients.square().sum(dim=2) + _TINY).sqrt()


def inpainting_loss(image: Tensor, rebuilt: Tensor) -> Tensor:
    """Return the scalar sum of mean squared error, 1 - SSIM and the multi-scale distance, equal weights as in RIAD."""
    squared = F.mse_loss(rebuilt, image)
    return squared + (1 - structural_similarity(image, rebuilt)).mean() + msgms_distance(image, rebuilt).mean()
