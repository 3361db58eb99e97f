"""Crane (Salehi et al. 2025), without DINOv2: AnomalyCLIP with wider attention, and an image score from patches too.

Network and scores are those of the authors' code with their learnt prompts (`tests/test_words_authors.py`), which are
fixed when an image is judged. How they are learnt, conditioned by images, and Crane+ are not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.methods.anomaly_clip_prompts import read_prompts
from edgead.methods.method import Course
from edgead.methods.value_paths import two_paths
from edgead.methods.words import WordsMethod, WordsNetwork, block_numbers, check_clip, check_paths

POOLED_SHARE = 0.5


@dataclass(frozen=True)
class CraneConfig:
    """Settings of crane.

    Attributes
    ----------
    backbone : str
        A tower of CLIP, see `edgead.methods.tower_names`.
    layers : tuple of str
        Blocks whose patches are compared with the prompts. The paper takes four; the authors' code asks for them too,
        but adds to what it has kept of the earlier ones, so that all four are the last.
    image_size : (int, int)
        Height and width that images are resized to.
    refined_blocks : int
        How many of the last blocks have a second path.
    prompts : str
        File of learnt prompts, the authors' epoch_5.pth; a model cannot be made without it.
    temperature : float
        Cosines are divided by it before the softmax.
    sigma_px : float
        Smoothing of the anomaly map.
    seed : int
        Every method takes one; here nothing is drawn at random.
    """

    backbone: str = "clip_vitl14_336"
    layers: tuple[str, ...] = ("block24",)
    image_size: tuple[int, int] = (518, 518)
    refined_blocks: int = 19
    prompts: str | None = None
    temperature: float = 0.07
    sigma_px: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_clip(self.backbone, self.temperature)
        check_paths(self.backbone, self.layers, self.refined_blocks)


def summed_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The attention of queries, of keys and of values to themselves, added and not averaged, of the values."""
    return torch.stack([F.scaled_dot_product_attention(each, each, values) for each in (queries, keys, values)]).sum(
        dim=0
    )


class CraneNetwork(WordsNetwork):
    """Patches on the refined path; the image as the mean of its class token and of its anomalous patches.

    Parameters
    ----------
    tower, temperature
        As for `WordsNetwork`.
    blocks, refined
        As for `two_paths`.
    """

    def __init__(self, tower: Any, temperature: float, blocks: Sequence[int], refined: int):
        super().__init__(tower, temperature)
        self.blocks, self.refined = tuple(blocks), refined

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h', w'), and image scores, float32 (n,)."""
        embedding, patches = self.embed(image)
        logits = patches @ self.texts.T / self.temperature
        patch_scores = logits.softmax(dim=-1).mean(dim=0)[..., 1]
        weights = logits.mean(dim=0).softmax(dim=-1)[..., 1:]
        pooled = F.normalize((patches.mean(dim=0) * weights).sum(dim=1), dim=-1)
        whole = POOLED_SHARE * pooled + (1 - POOLED_SHARE) * embedding
        return patch_scores.unflatten(1, self.grid), self.anomalous(whole)

    def embed(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB (n, h, w, 3) -> of length 1, the image's embedding (n, d) and those of patches (m, n, p, d)."""
        tokens, layers = two_paths(self.tower, self.tokens(image), self.blocks, self.refined, summed_attention)
        embedding, *patches = (self.tower.head(self.tower.norm(x)) for x in (tokens[:, 0], *(y[:, 1:] for y in layers)))
        return F.normalize(embedding, dim=-1), F.normalize(torch.stack(patches), dim=-1)


class Crane(WordsMethod[CraneConfig]):
    """Judges by the authors' learnt prompts, patches and the whole image together; nothing is learnt of the product."""

    name = "crane"
    config_class = CraneConfig
    presets = {"default": {}, "layers": {"layers": ("block6", "block12", "block18", "block24")}}
    purpose = "as anomaly_clip, with the prompts of Crane's authors, which are public"
    preset_purposes = {
        "default": "as the authors' code computes it, without DINOv2",
        "layers": "the mean of four blocks, which the paper describes",
    }
    positions = "bilinear"

    def __init__(self, config: CraneConfig = CraneConfig(), *, weights: Path | None = None, pretrained: bool = True):
        if pretrained and config.prompts is None:
            raise SettingsError("crane takes learnt prompts: give the authors' file with --set prompts=epoch_5.pth")
        super().__init__(config, weights=weights, pretrained=pretrained)
        if self.text is not None and config.prompts is not None:
            prompts = read_prompts(Path(config.prompts), self.text.network.width)
            self.set_texts(prompts(self.text))

    def build(self, tower: nn.Module) -> CraneNetwork:
        config = self.config
        return CraneNetwork(tower, config.temperature, block_numbers(config.layers), config.refined_blocks)

    def learn(self, images: Sequence[Any], course: Course) -> None:
        """The prompts are learnt already; there is nothing to learn from images."""
