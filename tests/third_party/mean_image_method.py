"""A detector: how far each patch of an image is from the mean of the good ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgead.adapt.methods.method import Course, MethodConfig
from edgead.heads import Head
from edgead.heads.map import MapHead
from edgead.workstation.methods.network import NetworkMethod


@dataclass(frozen=True)
class MeanImageConfig(MethodConfig):
    image_size: tuple[int, int] = (64, 64)
    patch: int = 8


class Distance(nn.Module):
    def __init__(self, config: MeanImageConfig):
        super().__init__()
        self.patch = config.patch
        self.register_buffer("mean", torch.zeros(3, *config.image_size))

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.permute(0, 3, 1, 2).float() / 255
        return nn.functional.avg_pool2d((pixels - self.mean).abs().mean(dim=1), self.patch)


class MeanImage(NetworkMethod[MeanImageConfig]):
    name = "mean_image"
    config_class = MeanImageConfig
    purpose = "parts that lie still, under a light that stays"

    def __init__(self, config: MeanImageConfig, *, weights: Path | None = None, pretrained: bool = True):
        super().__init__(config)
        self.network = Distance(config).eval()

    @property
    def head(self) -> Head:
        return MapHead()

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        self.network.mean.copy_(torch.from_numpy(np.mean(list(images), axis=0)).permute(2, 0, 1) / 255)
