"""Local and global: patch features, and beside them a Gaussian's score of the whole image. The fusion is ours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.workstation.backbones.pretrained import Backbone
from edgead.workstation.backbones.pyramid import pool
from edgead.workstation.methods.mvg.gaussian import Gaussian, gaussians, sum_distances
from edgead.workstation.methods.patchcore.network import PatchFeatures

FOLDS = 5


class FusedFeatures(PatchFeatures):
    """Patch features, and Mahalanobis distances of pooled levels of the same backbone; exported as it stands.

    Parameters
    ----------
    backbone : Backbone
    channels : sequence of int
        Channels of each of the backbone's layers.
    layers, global_layers : sequence of str
        The layers that patches are described by, and those that are pooled; they may overlap.
    damp_length, whiten : bool
        See PatchFeatures.
    """

    scale: Tensor

    def __init__(
        self,
        backbone: Backbone,
        channels: Sequence[int],
        *,
        layers: Sequence[str],
        global_layers: Sequence[str],
        damp_length: bool,
        whiten: bool = False,
    ):
        local = [i for i, name in enumerate(backbone.layers) if name in layers]
        super().__init__(backbone, [channels[i] for i in local], damp_length=damp_length, whiten=whiten)
        self.local_indices = local
        self.global_indices = [i for i, name in enumerate(backbone.layers) if name in global_layers]
        self.pooled = nn.ModuleList(Gaussian(channels[i]) for i in self.global_indices)
        self.register_buffer("scale", torch.ones(()))

    def align(self, layers: list[Tensor]) -> Tensor:
        """Features of the backbone's layers -> patch features before standardisation, float32 (n, d, h', w')."""
        return super().align([layers[i] for i in self.local_indices])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """uint8 RGB (n, h, w, 3) -> features, float32 (n, h', w', d), and image scores, float32 (n,)."""
        levels = self.levels(image)
        features = self.describe(self.align(levels))
        distance = sum_distances(self.pooled, [pool(levels[i]) for i in self.global_indices])
        return features, distance * self.scale

    def fit_pooled(self, pooled: Sequence[Tensor], deviation: float) -> None:
        """Learn the Gaussians, and the scale at which good images that were left out deviate by `deviation`.

        Parameters
        ----------
        pooled : sequence of Tensor of shape (n, d), float32
            Pooled features of good images, for each of the global layers.
        deviation : float
            That of the patches' image score; with it, equal weights are equally loud.
        """
        if len(pooled[0]) < 2 * FOLDS:
            raise SettingsError(f"a global score needs {2 * FOLDS} good images to learn from, found {len(pooled[0])}")
        distances = []
        for fold in range(FOLDS):
            left_out = torch.arange(len(pooled[0])) % FOLDS == fold
            for level, samples in zip(gaussians(self.pooled), pooled, strict=True):
                level.fit(samples[~left_out], reduction="npca")
            distances.append(sum_distances(self.pooled, [samples[left_out] for samples in pooled]))
        for level, samples in zip(gaussians(self.pooled), pooled, strict=True):
            level.fit(samples, reduction="npca")
        self.scale.fill_(deviation / float(torch.cat(distances).std().clamp_min(1e-6)))
