"""The network of the nearest-patch detectors: a uint8 image goes in, standardised patch features come out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.train.backbones import Backbone


class PatchFeatures(nn.Module):
    """Locally aware patch features (Roth et al. 2022, section 3.1), exported as it stands.

    Every layer is averaged over a neighbourhood of 3 x 3 positions, brought to the grid of the finest layer and
    concatenated. The channels of ImageNet features differ in scale by orders of magnitude; standardising each by
    its mean and deviation over the good images keeps the loud ones from deciding the distance alone.

    Parameters
    ----------
    backbone : Backbone
    channels : int
        Sum of the channels of the backbone's layers.
    unit_length : bool
        Scale every patch to length 1 afterwards, so that distances compare directions: the length follows contrast
        and lighting, which differ between good parts.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, backbone: Backbone, channels: int, *, unit_length: bool):
        super().__init__()
        self.backbone = backbone
        self.unit_length = unit_length
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("inverse_std", torch.ones(channels))

    def raw_features(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> features before standardisation, float32 (n, d, h', w')."""
        layers = self.backbone(image.permute(0, 3, 1, 2).float())
        pooled = [F.avg_pool2d(layer, 3, stride=1, padding=1, count_include_pad=False) for layer in layers]
        grid = pooled[0].shape[-2:]
        aligned = [pooled[0]] + [
            F.interpolate(layer, size=grid, mode="bilinear", align_corners=False) for layer in pooled[1:]
        ]
        return torch.cat(aligned, dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> features, float32 (n, h', w', d)."""
        features = self.raw_features(image).permute(0, 2, 3, 1)
        return self.standardise(features)

    def standardise(self, features: Tensor) -> Tensor:
        """Raw features (..., d) -> what is compared, (..., d)."""
        features = (features - self.mean) * self.inverse_std
        return F.normalize(features, dim=-1) if self.unit_length else features
