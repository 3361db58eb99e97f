"""A method whose network is a few lines: how far a patch is from the mean image, scored by a head from outside."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from edgead.artifact.manifest import Preprocessing
from edgead.heads import Head, find_head


class Differences(nn.Module):
    def __init__(self, side: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, side, side))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        pixels = image.permute(0, 3, 1, 2).float() / 255
        return nn.functional.avg_pool2d((pixels - self.mean).abs().mean(dim=1, keepdim=True), 8)[:, 0]


class DummyMethod:
    """Learns the mean image; subclasses name the head."""

    name = "dummy"
    learns_from = "good"
    kind = "offset"
    presets: dict[str, dict[str, Any]] = {"default": {}}

    def __init__(self, side: int = 64):
        self.config = SimpleNamespace(seed=0, image_size=(side, side))
        self.network = Differences(side).eval()
        self.preprocessing = Preprocessing(image_size=(side, side))
        self.offset = 0.0

    @classmethod
    def from_settings(cls, settings: dict[str, Any], **_: Any) -> DummyMethod:
        return cls(**settings)

    def settings(self) -> dict[str, Any]:
        return {"side": self.config.image_size[0]}

    @property
    def head(self) -> Head:
        return find_head(self.kind)()

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {"offset": np.full((1, 1), self.offset, np.float32)}

    def fit(self, images: Any, **_: Any) -> DummyMethod:
        pixels = torch.from_numpy(np.stack([images[i] for i in range(len(images))])).permute(0, 3, 1, 2) / 255
        self.network.mean.copy_(pixels.mean(dim=0))
        self.offset = float((pixels - self.network.mean).abs().mean())
        return self


class DummyVideo(DummyMethod):
    name = "dummy_video"
    kind = "recent"
