"""Saliency, a measure of how suspicious each place of an image is, and the mask computed from it.

The paper takes the attention of a DINO, whose weights file you supply; `obscure` takes the distance of a packaged
backbone's features from good images' features at the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.dataset.folders import Progress
from edgead.errors import SettingsError
from edgead.process.installation import plugin_command
from edgead.workstation.backbones.pretrained import Backbone, layer_shapes
from edgead.workstation.backbones.pyramid import each_batch

LAYER = "stride8"
SHARED_VARIANCE = 0.1
"""Variance added at each place, as a share of the channel's mean variance over all places."""
RAMP = 0.1
"""Range above the threshold, as a share of it, in which the mask rises from 0 to 1: a runtime that rounds otherwise
cuts out nearly the same."""
GROWN = 3
"""Side in cells of the window that widens the mask, by one cell on each side."""


class PlaceSaliency(nn.Module):
    """Squared distance of features from good images' at the same place, in standard deviations; not in the paper.

    `backbone`: backbone with one layer.
    """

    mean: Tensor
    inverse_variance: Tensor

    def __init__(self, backbone: Backbone, image_size: tuple[int, int]):
        super().__init__()
        self.backbone = backbone
        (shape,) = layer_shapes(backbone, image_size)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("inverse_variance", torch.ones(shape))

    def levels(self, image: Tensor) -> list[Tensor]:
        """uint8 RGB (n, h, w, 3) -> features, float32 (n, d, h', w'), smoothed over neighbours."""
        (features,) = self.backbone(image.float().permute(0, 3, 1, 2))
        return [F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)]

    def forward(self, image: Tensor) -> Tensor:
        (features,) = self.levels(image)
        return ((features - self.mean).square() * self.inverse_variance).mean(dim=1)

    def fit(self, images: Sequence[np.ndarray], device: torch.device, progress: Progress) -> None:
        """Set mean and variance of each channel and place from good images."""
        total = squares = torch.zeros((), dtype=torch.float64)
        for (features,) in each_batch(self, images, device, progress):
            exact = features.double().cpu()
            total, squares = total + exact.sum(dim=0), squares + exact.square().sum(dim=0)
        mean = total / len(images)
        variance = (squares / len(images) - mean.square()).clamp(min=0)
        shared = SHARED_VARIANCE * variance.mean(dim=(1, 2), keepdim=True) + 1e-6
        self.mean.copy_(mean)
        self.inverse_variance.copy_(1 / (variance + shared))


class AttentionSaliency(nn.Module):
    """Attention of a DINO's class token in the last block, averaged over its heads.

    `tower` (nn.Module): vision transformer of timm, built for the size of the images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tower: Any):
        super().__init__()
        self.tower = tower
        for name in ("mean", "std"):
            self.register_buffer(name, 255 * torch.tensor(tower.pretrained_cfg[name]).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        tower = self.tower
        tokens = tower._pos_embed(tower.patch_embed((image.float().permute(0, 3, 1, 2) - self.mean) / self.std))
        tokens = tower.norm_pre(tokens)
        for block in list(tower.blocks)[:-1]:
            tokens = block(tokens)
        last = tower.blocks[-1]
        queries, keys, _ = last.attn.qkv(last.norm1(tokens)).chunk(3, dim=-1)
        heads, width = last.attn.num_heads, last.attn.head_dim
        of_class = queries[:, :1].unflatten(2, (heads, width)).transpose(1, 2)
        keys = keys.unflatten(2, (heads, width)).transpose(1, 2)
        attention = (of_class @ keys.mT * width**-0.5).softmax(dim=-1)[:, :, 0, tower.num_prefix_tokens :]
        # Relative to the attention that each patch would have if all had the same.
        rows, columns = tower.patch_embed.grid_size
        return attention.mean(dim=1).unflatten(1, (rows, columns)) * (rows * columns)


def build_attention(
    name: str, image_size: tuple[int, int], weights: Path | None, pretrained: bool
) -> AttentionSaliency:
    """Build the attention of a DINO of edgead-foundation.

    Raises SettingsError: that plug-in is not installed, the name is no DINO, or the weights are missing or do not fit.
    """
    try:
        from edgead_foundation.backbones.names import DINO, TOWERS
        from edgead_foundation.backbones.towers import build_tower
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"saliency by attention needs edgead-foundation: {plugin_command('edgead-foundation')}"
        ) from error
    dinos = [known for known, tower in TOWERS.items() if tower.family is DINO]
    if name not in dinos:
        raise SettingsError(f"saliency by attention is of a DINO, found {name!r}: choose one of {', '.join(dinos)}")
    tower = build_tower(name, image_size, weights=weights, pretrained=pretrained)
    return AttentionSaliency(tower.eval().requires_grad_(False))


class SaliencyMask(nn.Module):
    """Deterministic mask of an image: the places with a saliency that few places of good images exceed.

    `saliency`: gives the saliency of RGB images, uint8 (n, h, w, 3): float32 (n, h', w'), 0 or more.
    """

    threshold: Tensor

    def __init__(self, saliency: nn.Module):
        super().__init__()
        self.saliency = saliency
        self.register_buffer("threshold", torch.ones(()))

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> mask, float32 (n, 1, h, w): 1 where the image is cut out."""
        return self.of_saliency(self.saliency(image), (image.shape[1], image.shape[2]))

    def of_saliency(self, saliency: Tensor, size: tuple[int, int]) -> Tensor:
        """Saliency (n, h', w') -> mask (n, 1, h, w)."""
        above = ((saliency[:, None] / self.threshold - 1) / RAMP).clamp(0, 1)
        grown = F.max_pool2d(above, GROWN, stride=1, padding=GROWN // 2)
        return F.interpolate(grown, size=size, mode="nearest")

    def fit(self, images: Sequence[np.ndarray], share: float, device: torch.device, progress: Progress) -> Tensor:
        """Set the threshold that a given share of places of good images exceeds; return their saliency (n, h', w')."""
        self.to(device)
        found = []
        with torch.inference_mode():
            for number, image in enumerate(images, start=1):
                found.append(self.saliency(torch.from_numpy(image)[None].to(device))[0].cpu())
                progress(number, len(images))
        saliency = torch.stack(found).clone()
        flat = saliency.flatten().numpy()
        self.threshold.fill_(max(float(np.quantile(flat, 1 - share)), 1e-6))
        return saliency
