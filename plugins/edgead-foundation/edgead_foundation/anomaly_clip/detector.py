"""AnomalyCLIP (Zhou et al. 2024): two learnt prompts for any product; patches attend to similar patches only.

Network, prompts, losses and scores are those of the authors' code (`tests/test_words_authors.py`). The prompts are
learnt once, from labelled images of other products, or read from the authors' files; the product itself is not learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead_foundation.anomaly_clip.learnt_words import LearntWords, LearntWordsConfig
from edgead_foundation.anomaly_clip.training import MAP_WEIGHT, image_loss, map_loss
from edgead_foundation.clip.value_paths import two_paths
from edgead_foundation.clip.words import WordsNetwork, block_numbers


@dataclass(frozen=True)
class AnomalyClipConfig(LearntWordsConfig):
    """Settings of anomaly_clip; maps of several layers are summed, while the authors' scripts use the last layer."""


class AnomalyClipNetwork(WordsNetwork):
    """Network that compares two texts with the image, and with its patches from a second path of refined attention.

    `tower`, `temperature`: parameters of `WordsNetwork`.
    `blocks`, `refined`: parameters of `two_paths`.
    """

    def __init__(self, tower: Any, temperature: float, blocks: Sequence[int], refined: int):
        super().__init__(tower, temperature)
        self.blocks, self.refined = tuple(blocks), refined

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h', w'), and image scores, float32 (n,)."""
        embedding, patches = self.embed(image)
        layers = torch.stack([self.anomalous(each) for each in patches])
        return layers.sum(dim=0).unflatten(1, self.grid), self.anomalous(embedding)

    def embed(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """uint8 RGB (n, h, w, 3) -> embeddings of the image (n, d), and of patches at each layer, (n, patches, d).

        The authors' code projects the class token without the normalisation before it.
        """
        tokens, layers = two_paths(self.tower, self.tokens(image), self.blocks, self.refined)
        return self.tower.head(tokens[:, 0]), [self.tower.head(self.tower.norm(each[:, 1:])) for each in layers]


class AnomalyClip(LearntWords[AnomalyClipConfig]):
    """Judges by prompts that were learnt on other products; it learns nothing from this product."""

    network: AnomalyClipNetwork

    name = "anomaly_clip"
    config_class = AnomalyClipConfig
    presets = {"default": {}, "layers": {"layers": ("block6", "block12", "block18", "block24")}}
    purpose = "a file of CLIP, a GPU, and no image to learn from; everything is for review until `edgead calibrate`"
    preset_purposes = {
        "default": "as in the authors' scripts",
        "layers": "the map from four blocks, as the authors' code has it without options",
    }
    prompts_file = "epoch_15.pth"
    betas = (0.5, 0.999)

    def __init__(
        self, config: AnomalyClipConfig = AnomalyClipConfig(), *, weights: Path | None = None, pretrained: bool = True
    ):
        super().__init__(config, weights=weights, pretrained=pretrained)

    def build(self, tower: nn.Module) -> AnomalyClipNetwork:
        config = self.config
        return AnomalyClipNetwork(tower, config.temperature, block_numbers(config.layers), config.refined_blocks)

    def loss(self, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch, see `LabelledSet.batch`; a scalar."""
        assert self.prompts is not None and self.text is not None
        with torch.no_grad():
            embedding, layers = self.network.embed(images)
        texts = self.prompts(self.text)
        shares = [
            F.interpolate(
                self.network.shares(each, texts).permute(0, 2, 1).unflatten(2, self.network.grid),
                size=self.config.image_size,
                mode="bilinear",
            )
            for each in layers
        ]
        cosines = F.normalize(embedding, dim=-1) @ texts.T
        return MAP_WEIGHT * map_loss(shares, masks) + image_loss(cosines, labels, self.config.temperature)
