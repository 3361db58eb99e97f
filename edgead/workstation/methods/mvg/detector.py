"""Multivariate Gaussians of pooled features.

Rippel, Mertens, Merhof, "Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly Detection",
ICPR 2020 (arXiv 2005.14140).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgead.adapt.frozen_backbone import LITE_LAYERS, check_backbone
from edgead.adapt.methods.method import Course, MethodConfig
from edgead.dataset.folders import Progress
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.backbones.pretrained import Backbone, build_backbone, layer_shapes
from edgead.workstation.backbones.pyramid import each_batch, on_finest_grid, pool
from edgead.workstation.methods.mvg.gaussian import (
    Gaussian,
    Reduction,
    check_reduction,
    chi_quantile,
    gaussians,
    sum_distances,
)
from edgead.workstation.methods.network import NetworkMethod


@dataclass(frozen=True)
class MvgConfig(MethodConfig):
    """Settings of mvg.

    Attributes
    ----------
    backbone : str
        See `edgead.workstation.backbones.pretrained`. The paper uses EfficientNet-B4.
    layers : tuple of str
        Levels whose pooled features are modelled; by default all, as in the paper's sum over levels.
    image_size : (int, int)
        Height and width that images are resized to.
    reduction : {"none", "pca", "npca"}
        Principal components kept in every level: all, those of most or those of least variance (the paper's NPCA).
    variance : float
        Share of the variance at which a reduction cuts.
    map_layers : tuple of str
        Levels among `layers` whose patches make the anomaly map, which is an addition of edgead.
    max_patches : int
        Largest number of patches of a level, drawn at random, to which a map's Gaussian is fitted.
    sigma_px : float
        Smoothing of the anomaly map.
    seed : int
    """

    backbone: str = "efficientnet_lite2"
    layers: tuple[str, ...] = LITE_LAYERS
    image_size: tuple[int, int] = (320, 320)
    reduction: Reduction = "npca"
    variance: float = 0.99
    map_layers: tuple[str, ...] = ("stride8", "stride16")
    max_patches: int = 50_000
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        check_backbone(self.backbone, self.layers)
        check_reduction(self.reduction, self.variance)
        missing = [layer for layer in self.map_layers if layer not in self.layers]
        if missing or not self.map_layers:
            raise SettingsError(f"map_layers {list(self.map_layers)}: choose from layers {', '.join(self.layers)}")


class GaussianLevels(nn.Module):
    """Network of the summed Mahalanobis distances of pooled levels, and of patches for the map; exported unchanged.

    `channels`: channels of each of the backbone's layers.
    """

    def __init__(self, backbone: Backbone, channels: Sequence[int], map_layers: Sequence[str]):
        super().__init__()
        self.backbone = backbone
        self.map_indices = [i for i, name in enumerate(backbone.layers) if name in map_layers]
        self.pooled = nn.ModuleList(Gaussian(count) for count in channels)
        self.patches = nn.ModuleList(Gaussian(channels[i]) for i in self.map_indices)

    def levels(self, image: Tensor) -> list[Tensor]:
        """uint8 RGB (n, h, w, 3) -> features of every level, float32 (n, d, h', w')."""
        return self.backbone(image.float().permute(0, 3, 1, 2))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h', w'), and image scores, float32 (n,).

        The image score is the sum of the pooled levels' distances; the authors' code takes their mean. Patch scores,
        edgead's addition, are the same sum for patches, on the grid of the map's finest level.
        """
        levels = self.levels(image)
        image_score = sum_distances(self.pooled, [pool(level) for level in levels])
        mapped = [levels[i] for i in self.map_indices]
        distances = [gaussian(level.permute(0, 2, 3, 1)) for gaussian, level in zip(self.patches, mapped, strict=True)]
        return on_finest_grid(distances).sum(dim=0), image_score


class Mvg(NetworkMethod[MvgConfig]):
    """Detector that models the features of good images by one Gaussian for every level of a frozen backbone."""

    network: GaussianLevels

    name = "mvg"
    inputs = ("rgb", "grey16", "relief", "rgb_relief")
    config_class = MvgConfig
    presets = {
        "fast": {"backbone": "efficientnet_lite0", "image_size": (224, 224)},
        "default": {},
    }
    purpose = "defects that change the whole part, where nothing but the network may take time"
    preset_purposes = {
        "fast": "tight budgets",
        "default": "accuracy",
    }

    def __init__(
        self,
        config: MvgConfig = MvgConfig(),
        *,
        weights: Path | None = None,
        pretrained: bool = True,
        channels: int = 3,
    ):
        super().__init__(config)
        backbone = build_backbone(
            config.backbone,
            config.layers,
            image_size=config.image_size,
            weights=weights,
            pretrained=pretrained,
            channels=channels,
        )
        of_levels = [shape[0] for shape in layer_shapes(backbone, config.image_size)]
        self.network = GaussianLevels(backbone, of_levels, config.map_layers).eval()

    @property
    def head(self) -> MapHead:
        return MapHead(patch_weight=0.0, graph_weight=1.0, sigma_px=self.config.sigma_px)

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Fit a Gaussian to the features of every level; there is nothing to resume."""
        if len(images) < 2:
            raise SettingsError(f"mvg learns a distribution: it needs at least 2 good images, found {len(images)}")
        pooled, patches = self._extract(images, course.device, partial(course.progress, "extract features"))
        config = self.config
        for level, samples in zip(gaussians(self.network.pooled), pooled, strict=True):
            level.fit(samples, reduction=config.reduction, variance=config.variance)
        for level, samples in zip(gaussians(self.network.patches), patches, strict=True):
            level.fit(samples)

    def facts(self, false_reject_rate: float) -> dict[str, Any]:
        """Facts for the manifest: the threshold that the paper would derive."""
        return {"gaussian_threshold": self.working_point(false_reject_rate)}

    def working_point(self, false_positive_rate: float) -> float:
        """Compute the paper's threshold of the image score for an accepted false-positive rate.

        For Gaussian features a level's squared distance has a chi-square distribution, and the threshold is a quantile
        of it. The paper gives it for a single level; for a sum of dependent levels, every level takes an equal part of
        the rate, so that by the union bound the sum exceeds the sum of their thresholds at most that often. This relies
        on the assumption and the estimates, so the shipped threshold is the conformal one.
        """
        levels = gaussians(self.network.pooled)
        probability = 1 - false_positive_rate / len(levels)
        return sum(chi_quantile(probability, level.whitening.shape[1]) for level in levels)

    def _extract(
        self, images: Sequence[np.ndarray], device: torch.device, progress: Progress
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Compute the features of every level, (n, d): pooled over each image, and of patches in the map's levels."""
        rng = np.random.default_rng(self.config.seed)
        pooled: list[list[Tensor]] = [[] for _ in self.network.pooled]
        patches: list[list[Tensor]] = [[] for _ in self.network.patches]
        keep = max(1, self.config.max_patches // len(images))
        for levels in each_batch(self.network, images, device, progress):
            for rows, level in zip(pooled, levels, strict=True):
                rows.append(pool(level).cpu())
            for rows, index in zip(patches, self.network.map_indices, strict=True):
                for image in levels[index].flatten(2).transpose(1, 2).cpu():
                    rows.append(image[torch.from_numpy(rng.permutation(len(image))[:keep])])
        return [torch.cat(rows) for rows in pooled], [torch.cat(rows) for rows in patches]
