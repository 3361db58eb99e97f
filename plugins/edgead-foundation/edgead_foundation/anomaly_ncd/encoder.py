"""Encoders of crops: of each crop, they use only the anomalous region."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.workstation.backbones.pretrained import build_backbone
from edgead_foundation.backbones.vit import VisionTransformer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """Encoder of RGB normalised like ImageNet, (n, 3, side, side), and masks in 0..1, (n, 1, side, side), to (n, d).

    `side`: side of its images in pixels.
    `channels`: channels d of its output.
    """

    side: int
    channels: int


class MaskGuidedVit(Encoder):
    """Vision transformer whose class token sees only the patches of the region (section 3.3).

    `masked`: number of last blocks in which the class token is masked; earlier blocks are unchanged.
    `trained`: number of last blocks that learn; all others are frozen.
    """

    def __init__(self, vit: VisionTransformer, masked: int = 9, trained: int = 1):
        super().__init__()
        self.vit = vit.requires_grad_(False)
        self.masked = masked
        self.side, self.channels = vit.shape.image_size, vit.shape.width
        for block in list(vit.blocks)[-trained:]:
            block.requires_grad_(True)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """RGB normalised like ImageNet, (n, 3, side, side), and masks in 0..1, (n, 1, side, side) -> (n, d)."""
        shape = self.vit.shape
        seen = F.avg_pool2d(mask, shape.patch_size).flatten(1) >= 0.5
        allowed = seen.new_ones(len(mask), 1, 1 + shape.grid**2, 1 + shape.grid**2)
        allowed[:, 0, 0, 1:] = seen
        x = self.vit.embed(image)
        for number, block in enumerate(self.vit.blocks):
            x = block(x, allowed if number >= shape.depth - self.masked else None)
        return self.vit.norm(x)[:, 0]


class RegionAverage(Encoder):
    """Encoder without a transformer, unlike the paper's: averages features of a packaged backbone over the region.

    The backbone is frozen. Its channels are standardised over the crops, since the heads compare directions; only one
    layer, initialised as the identity, learns.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = "efficientnet_lite0", layer: str = "stride16", side: int = 224):
        super().__init__()
        self.backbone = build_backbone(name, [layer], image_size=(side, side))
        self.side = side
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])
        with torch.inference_mode():
            self.channels = self.backbone(torch.zeros(1, 3, side, side))[0].shape[1]
        self.standardise = nn.BatchNorm1d(self.channels, affine=False)
        self.adaptor = nn.Linear(self.channels, self.channels)
        nn.init.eye_(self.adaptor.weight)
        nn.init.zeros_(self.adaptor.bias)

    def train(self, mode: bool = True) -> RegionAverage:
        """Set the training mode, but keep the backbone's ImageNet statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """RGB normalised like ImageNet, (n, 3, side, side), and masks in 0..1, (n, 1, side, side) -> (n, d)."""
        features = self.backbone(255 * (image * self.std + self.mean))[0]
        share = F.adaptive_avg_pool2d(mask, features.shape[-2:])
        # If the region is too small for a position, the whole crop counts.
        share = share + (share.sum(dim=(2, 3), keepdim=True) < 1e-3)
        pooled = (features * share).sum(dim=(2, 3)) / share.sum(dim=(2, 3))
        return self.adaptor(self.standardise(pooled))
