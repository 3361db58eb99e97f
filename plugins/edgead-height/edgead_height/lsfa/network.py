"""Network of `lsfa`: a backbone for colours and relief, followed by the adaptors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.workstation.backbones.pretrained import Backbone
from edgead_height.lsfa.adaptor import Adaptors

# Scale of features: unrelated patches then have a squared distance of 50, at which the loss clips.
_SQUARED_LENGTH = 25.0


class AdaptedPairs(Backbone):
    """Network that joins a backbone's layers to one feature for each modality (colours, relief), and adapts both.

    `backbone`: network from colours and relief (n, 6, h, w) to layers of the colours, then of the relief.
    `widths`: channels of each layer of one modality.
    `mean`, `inverse_std` (Tensor of shape (2, width, 1, 1)): mean and inverse deviation of good parts' features;
        colours first.
    """

    def __init__(self, backbone: Backbone, widths: Sequence[int], heads: int):
        nn.Module.__init__(self)
        self.backbone = backbone
        self.layers = ("colour", "height")
        self.width = sum(widths)
        self.adaptors = Adaptors(self.width, self.width, heads)
        self.mean: Tensor
        self.inverse_std: Tensor
        self.register_buffer("mean", torch.zeros(2, self.width, 1, 1))
        self.register_buffer("inverse_std", torch.ones(2, self.width, 1, 1))

    def raw(self, image: Tensor) -> Tensor:
        """Colours and relief (n, 6, h, w) -> features of both, side by side, (n, 2, width, h', w')."""
        layers = self.backbone(image)
        half = len(layers) // 2
        return torch.stack([self._joined(layers[:half]), self._joined(layers[half:])], dim=1)

    def scaled(self, raw: Tensor) -> Tensor:
        """Standardise features (n, 2, width, h', w') for the adaptors."""
        return (raw - self.mean) * self.inverse_std * (_SQUARED_LENGTH / self.width) ** 0.5

    def forward(self, image: Tensor) -> list[Tensor]:
        """Colours and relief (n, 6, h, w) -> adapted features of each, two of (n, width, h', w')."""
        scaled = self.scaled(self.raw(image))
        rows, columns = scaled.shape[-2:]
        blocks = (self.adaptors.colour, self.adaptors.height)
        adapted = [block(patches_of(scaled[:, which])) for which, block in enumerate(blocks)]
        return [patches.transpose(1, 2).reshape(-1, self.width, rows, columns) for patches in adapted]

    @staticmethod
    def _joined(layers: Sequence[Tensor]) -> Tensor:
        grid = layers[0].shape[-2:]
        coarse = [F.interpolate(layer, size=grid, mode="bilinear", align_corners=False) for layer in layers[1:]]
        return torch.cat([layers[0], *coarse], dim=1)


def patches_of(features: Tensor) -> Tensor:
    """Features (n, width, h, w) -> (n, h w, width)."""
    return features.flatten(2).transpose(1, 2)
