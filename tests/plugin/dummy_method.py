"""Methods of somebody else, whose network is a few lines: how far a patch is from the mean image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgead.adapt.methods.method import Course, MethodConfig
from edgead.heads import Head, find_head
from edgead.workstation.methods.network import NetworkMethod


@dataclass(frozen=True)
class DummyConfig(MethodConfig):
    image_size: tuple[int, int] = (64, 64)


class Differences(nn.Module):
    def __init__(self, image_size: tuple[int, int]):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, *image_size))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        pixels = image.permute(0, 3, 1, 2).float() / 255
        return nn.functional.avg_pool2d((pixels - self.mean).abs().mean(dim=1, keepdim=True), 8)[:, 0]


class DummyMethod(NetworkMethod[DummyConfig]):
    """Learns the mean image; subclasses name the head."""

    name = "dummy"
    config_class = DummyConfig
    kind = "offset"
    offset = 0.0

    def __init__(self, config: DummyConfig = DummyConfig(), *, weights: Path | None = None, pretrained: bool = True):
        super().__init__(config)
        self.network = Differences(config.image_size).eval()

    @property
    def head(self) -> Head:
        return find_head(self.kind)()

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        return {"offset": np.full((1, 1), self.offset, np.float32)}

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        pixels = torch.from_numpy(np.stack([images[i] for i in range(len(images))])).permute(0, 3, 1, 2) / 255
        self.network.mean.copy_(pixels.mean(dim=0))
        self.offset = float((pixels - self.network.mean).abs().mean())


class DummyVideo(DummyMethod):
    name = "dummy_video"
    kind = "recent"
