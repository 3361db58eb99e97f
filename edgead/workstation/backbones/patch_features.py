"""Network of the nearest-patch detectors, from a uint8 image to standardised patch features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.adapt.memory_bank.feature_space import fit_metric, fit_scale
from edgead.workstation.backbones.pretrained import Backbone


class PatchFeatures(nn.Module):
    """Network of locally aware patch features (Roth et al. 2022, section 3.1), exported unchanged.

    Every layer is averaged over a neighbourhood of 3 x 3 positions, resized to the grid of the finest layer and
    concatenated. The channels of ImageNet features differ in scale by orders of magnitude; standardising each by
    its mean and deviation over the good images prevents that the largest ones dominate the distance.

    `channels`: channels of each of the backbone's layers.
    `damp_length`: then divide a patch's vector x of each layer by sqrt(|x|^2 + r^2), with r the median length over good
        patches. Long vectors are thereby compared by direction (their length follows contrast and lighting, which
        differ between good parts), short ones keep their length (scaled to 1, mainly their noise would be compared),
        and layers with many channels do not outweigh those with few.
    `whiten`: finally multiply by the metric of `edgead.adapt.memory_bank.feature_space`.
    """

    mean: Tensor
    inverse_std: Tensor
    squared_length: Tensor
    metric: Tensor

    def __init__(self, backbone: Backbone, channels: Sequence[int], *, damp_length: bool, whiten: bool = False):
        super().__init__()
        self.backbone = backbone
        self.channels = list(channels)
        self.damp_length = damp_length
        self.whiten = whiten
        self.register_buffer("mean", torch.zeros(sum(channels)))
        self.register_buffer("inverse_std", torch.ones(sum(channels)))
        self.register_buffer("squared_length", torch.ones(len(channels)))
        if whiten:
            # Stored as weights of a 1 x 1 convolution, as engines for Turing take no product of float32 matrices.
            self.register_buffer("metric", torch.eye(sum(channels))[:, :, None, None])

    @property
    def learnt(self) -> dict[str, np.ndarray]:
        """Learnt arrays by the names of their buffers; the exported graph takes them as inputs, in this order."""
        names = ["mean", "inverse_std", *["squared_length"] * self.damp_length, *["metric"] * self.whiten]
        return {name: getattr(self, name).numpy() for name in names}

    def levels(self, image: Tensor) -> list[Tensor]:
        """uint8 RGB (n, h, w, 3) -> features of every layer of the backbone, float32 (n, d, h', w')."""
        return self.backbone(image.float().permute(0, 3, 1, 2))

    def raw_features(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> features before standardisation, float32 (n, d, h', w')."""
        return self.align(self.levels(image))

    def align(self, layers: list[Tensor]) -> Tensor:
        """Features of the layers -> patch features before standardisation, float32 (n, d, h', w')."""
        pooled = [F.avg_pool2d(layer, 3, stride=1, padding=1, count_include_pad=False) for layer in layers]
        grid = pooled[0].shape[-2:]
        aligned = [pooled[0]] + [
            F.interpolate(layer, size=grid, mode="bilinear", align_corners=False) for layer in pooled[1:]
        ]
        return torch.cat(aligned, dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> features, float32 (n, h', w', d)."""
        return self.describe(self.raw_features(image))

    def describe(self, raw: Tensor) -> Tensor:
        """Raw features (n, d, h', w') -> final features to compare, (n, h', w', d)."""
        features = self.standardise(raw.permute(0, 2, 3, 1))
        if not self.whiten:
            return features
        return F.conv2d(features.permute(0, 3, 1, 2), self.metric).permute(0, 2, 3, 1)

    @torch.no_grad()
    def fit_scale(self, features: Tensor) -> None:
        """Learn the scale from raw features of good images, float32 (n, d), on the CPU."""
        scale = fit_scale(features.numpy(), self.channels, damps=self.damp_length)
        self.mean.copy_(torch.from_numpy(scale.mean))
        self.inverse_std.copy_(torch.from_numpy(scale.inverse_std))
        self.squared_length.copy_(torch.from_numpy(scale.squared_length))

    @torch.no_grad()
    def fit_metric(self, features: Tensor, groups: Sequence[int], seed: int) -> None:
        """Learn the metric from standardised features of good images, float32 (n, d), equally many from each image."""
        found = fit_metric(features.numpy(), groups, seed=seed)
        self.metric.copy_(torch.from_numpy(found.matrix)[:, :, None, None])

    def standardise(self, features: Tensor) -> Tensor:
        """Raw features (..., d) -> standardised and damped features, before the metric, (..., d)."""
        features = (features - self.mean) * self.inverse_std
        if not self.damp_length:
            return features
        scale = torch.rsqrt(self._squared_lengths(features) + self.squared_length)
        layers = features.split(self.channels, dim=-1)
        return torch.cat([layer * scale[..., i : i + 1] for i, layer in enumerate(layers)], dim=-1)

    def _squared_lengths(self, features: Tensor) -> Tensor:
        """Features (..., d) -> squared length of each layer's part, (..., layers)."""
        return torch.stack([x.square().sum(dim=-1) for x in features.split(self.channels, dim=-1)], dim=-1)
