"""Patch features as the authors of SimpleNet make them: whole neighbourhoods instead of their mean.

Liu et al. 2023, section 3.1, and the authors' code (DonaldRR/SimpleNet), which has it from that of PatchCore.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.workstation.backbones.pretrained import Backbone
from edgead.workstation.methods.patchcore.network import PatchFeatures


class UnfoldedFeatures(PatchFeatures):
    """Plain patch features: neither standardised nor damped.

    Of every layer the 3 x 3 neighbourhood of a position, zeros beyond the border, is laid out channel by channel and
    pooled to `embedding` numbers: means of a few neighbours in that order, so that the neighbourhood keeps some of its
    form. All layers together are pooled to `embedding` numbers again. Pooling mixes numbers of one position, and
    bilinear interpolation positions of one number, so either may come first; pooled first, there is less of it.

    Parameters
    ----------
    backbone : Backbone
    embedding : int
        Numbers of a patch; 1536 in the authors' script.
    """

    def __init__(self, backbone: Backbone, embedding: int):
        super().__init__(backbone, [embedding], damp_length=False)
        self.embedding = embedding

    def align(self, layers: list[Tensor]) -> Tensor:
        """Features of the layers -> patch features, float32 (n, embedding, h', w')."""
        pooled = [_pool_channels(F.unfold(layer, 3, padding=1), self.embedding) for layer in layers]
        grids = [(len(layer), self.embedding, *layer.shape[-2:]) for layer in layers]
        maps = [x.reshape(grid) for x, grid in zip(pooled, grids, strict=True)]
        finest = layers[0].shape[-2:]
        aligned = [maps[0]] + [F.interpolate(x, size=finest, mode="bilinear", align_corners=False) for x in maps[1:]]
        together = _pool_channels(torch.cat(aligned, dim=1).flatten(2), self.embedding)
        return together.reshape(grids[0])

    def fit_scale(self, features: Tensor) -> None:
        """Leave the features as they are."""

    def standardise(self, features: Tensor) -> Tensor:
        """Leave the features as they are."""
        return features


def _pool_channels(features: Tensor, numbers: int) -> Tensor:
    """Features (n, d, positions) -> means of neighbouring channels, (n, numbers, positions)."""
    return F.adaptive_avg_pool1d(features.transpose(1, 2), numbers).transpose(1, 2)
