"""Crane (Salehi et al. 2025): AnomalyCLIP with extended attention, image scores from patches, and image-aware prompts.

Networks, losses and scores are those of the authors' code, with DINOv2 (Crane+) and without
(`tests/test_words_authors.py`). Prompts depend on the image during training; for predictions they are fixed, as in the
authors' test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.artifact.files import file_sha256
from edgead.errors import SettingsError
from edgead_foundation.anomaly_clip.learnt_words import LearntWords, LearntWordsConfig
from edgead_foundation.anomaly_clip.training import dice_loss, focal_loss, image_loss
from edgead_foundation.backbones.names import DINOV2, DINOV2_REG, TOWERS
from edgead_foundation.backbones.towers import build_tower
from edgead_foundation.clip.value_paths import two_paths
from edgead_foundation.clip.words import WordsNetwork, block_numbers
from edgead_foundation.crane.dino_attention import DinoAttention, gather_values

POOLED_SHARE = 0.5
IMAGE_WEIGHT, IMAGE_TEMPERATURE = 0.2, 0.01
"""Weight and temperature of the image's cross-entropy while prompts are learnt."""


@dataclass(frozen=True)
class CraneConfig(LearntWordsConfig):
    """Settings of crane.

    Attributes
    ----------
    layers : tuple of str
        The paper uses four; the authors' code requests them too, but later changes the stored tensors in place, so
        that all four equal the last.
    epochs : int
    dino : str, optional
        Tower of DINOv2 with CLIP's patch size; with it the method is the paper's Crane+.
    dino_weights : str, optional
        File of that tower; by default it is downloaded, once, into the cache of the Hugging Face Hub.
    mean_of : {"shares", "logits"}
        Quantity averaged over several maps: probabilities of the anomalous text, or cosines before the softmax.
    map_weight : float
        Weight of the focal and Dice losses of each map during training. The authors' code has 2, and without DINOv2
        four equal maps.
    """

    epochs: int = 5
    dino: str | None = None
    dino_weights: str | None = None
    mean_of: str = "shares"
    map_weight: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mean_of not in ("shares", "logits"):
            raise ValueError(f"mean_of {self.mean_of!r}: give shares or logits")
        if self.map_weight <= 0:
            raise ValueError(f"map_weight {self.map_weight}: give a positive number, such as 2")
        if self.dino is not None:
            self._check_dino(self.dino)
        elif self.dino_weights is not None:
            raise ValueError("dino_weights are of Crane+: give dino too, such as dinov2_vitb14_reg, or --preset plus")

    def _check_dino(self, name: str) -> None:
        clip = TOWERS[self.backbone]
        of_patch = [known for known, tower in TOWERS.items() if tower.family in (DINOV2, DINOV2_REG)]
        if name not in of_patch:
            raise ValueError(f"dino {name!r} is no DINOv2: choose one of {', '.join(of_patch)}")
        if TOWERS[name].patch != clip.patch:
            raise ValueError(
                f"patches of {name} have {TOWERS[name].patch} pixels, and those of {self.backbone} {clip.patch}: give "
                "backbone=clip_vitl14_336"
            )
        first = clip.depth - self.refined_blocks + 2
        if min(block_numbers(self.layers)) < first:
            raise ValueError(f"layers {list(self.layers)}: Crane+ takes block{first} and those after it")


def summed_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend to values by the sum, not the mean, of the attentions of queries, keys and values to themselves."""
    return torch.stack([F.scaled_dot_product_attention(each, each, values) for each in (queries, keys, values)]).sum(
        dim=0
    )


class CraneNetwork(WordsNetwork):
    """Network with a second path for patches; the class token and the anomalous patches are averaged for the image.

    `dino`: if set, patches also include the values that it gathers on the first path, between attention and MLP of each
        block, where the authors' code has changed the stored input of the block in place.
    """

    def __init__(self, tower: Any, config: CraneConfig):
        super().__init__(tower, config.temperature)
        self.blocks, self.refined = tuple(block_numbers(config.layers)), config.refined_blocks
        self.mean_of = config.mean_of
        self.dino: DinoAttention | None = None

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h', w'), and image scores, float32 (n,).

        Logits are resized to the image before the softmax, so that h' is h; probabilities are resized by the head.
        """
        embedding, patches = self.embed(image)
        logits, whole = self.compare(embedding, patches, self.texts)
        if self.mean_of == "shares":
            scores = logits.softmax(dim=-1).mean(dim=0)[..., 1].unflatten(1, self.grid)
        else:
            mean = logits.mean(dim=0).permute(0, 2, 1).unflatten(2, self.grid)
            scores = F.interpolate(mean, size=self.tower.patch_embed.img_size, mode="bilinear").softmax(dim=1)[:, 1]
        return scores, self.anomalous(whole)

    def embed(self, image: Tensor, *, one_mean: bool = False) -> tuple[Tensor, Tensor]:
        """uint8 RGB (n, h, w, 3) -> embeddings of length 1, of images (n, d) and of patches in m maps (m, n, p, d).

        For `one_mean` see `DinoAttention`.
        """
        beside = None
        if self.dino is not None:
            weights = self.dino(image, one_mean=one_mean)
            beside = lambda block, tokens: gather_values(block, tokens, weights)  # noqa: E731
        tokens, layers = two_paths(self.tower, self.tokens(image), self.blocks, self.refined, summed_attention, beside)
        patches = self.grid[0] * self.grid[1]
        found = [self.tower.head(self.tower.norm(x)) for x in (tokens[:, 0], *(y[:, -patches:] for y in layers))]
        return F.normalize(found[0], dim=-1), F.normalize(torch.stack(found[1:]), dim=-1)

    def compare(self, embedding: Tensor, patches: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Compare the results of `embed` with texts, (2, d), or texts of each image, (n, 2, d).

        Returns (Tensor of shape (m, n, p, 2), Tensor of shape (n, d)): logits of patches, and embeddings of length 1 of
            whole images.
        """
        logits = patches @ texts.mT / self.temperature
        weights = logits.mean(dim=0).softmax(dim=-1)[..., 1:]
        pooled = F.normalize((patches.mean(dim=0) * weights).sum(dim=1), dim=-1)
        return logits, F.normalize(POOLED_SHARE * pooled + (1 - POOLED_SHARE) * embedding, dim=-1)


class Crane(LearntWords[CraneConfig]):
    """Judges by learnt prompts, patches and the whole image together; nothing is learnt of the product."""

    network: CraneNetwork

    name = "crane"
    config_class = CraneConfig
    presets = {
        "default": {},
        "layers": {"layers": ("block6", "block12", "block18", "block24"), "map_weight": 2.0},
        "plus": {"dino": "dinov2_vitb14_reg", "mean_of": "logits", "map_weight": 2.0},
    }
    purpose = "as anomaly_clip, with the prompts of Crane's authors, which are public"
    preset_purposes = {
        "default": "as the authors' code computes it, without DINOv2",
        "layers": "the mean of four blocks, which the paper describes",
        "plus": "Crane+: with DINOv2, for better maps",
    }
    prompts_file = "epoch_5.pth"
    betas = (0.6, 0.999)

    def __init__(self, config: CraneConfig = CraneConfig(), *, weights: Path | None = None, pretrained: bool = True):
        super().__init__(config, weights=weights, pretrained=pretrained)
        width, read = self.network.tower.num_classes, None if self.text is None else self.text.network.width
        if config.auxiliary and read not in (None, width):
            raise SettingsError(
                f"crane shows its prompts the image, {width} channels, and the text tower of {config.backbone} reads "
                f"{read}: take another backbone, such as clip_vitl14_336, or learnt prompts"
            )
        if config.dino is not None:
            file = None if config.dino_weights is None else Path(config.dino_weights)
            tower = build_tower(config.dino, config.image_size, weights=file, pretrained=pretrained)
            self.network.dino = DinoAttention(tower).eval().requires_grad_(False)

    def build(self, tower: nn.Module) -> CraneNetwork:
        return CraneNetwork(tower, self.config)

    @property
    def notes(self) -> Mapping[str, Any]:
        file = self.config.dino_weights
        return {
            **super().notes,
            **({} if file is None or self.text is None else {"dino_sha256": file_sha256(Path(file))}),
        }

    def loss(self, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of the authors' training, with prompts that depend on the images."""
        assert self.prompts is not None and self.text is not None
        with torch.no_grad():
            embedding, patches = self.network.embed(images, one_mean=True)
        texts = self.prompts.of_images(self.text, embedding)
        logits, whole = self.network.compare(embedding, patches, texts)
        losses = []
        for each in logits.softmax(dim=-1):
            grid = each.permute(0, 2, 1).unflatten(2, self.network.grid)
            shares = F.interpolate(grid, size=self.config.image_size)
            losses.append(focal_loss(shares, masks) + dice_loss((1 - shares[:, 0] + shares[:, 1]) / 2, masks))
        cosines = (whole[:, None] @ texts.mT)[:, 0]
        judged = image_loss(cosines, labels, IMAGE_TEMPERATURE)
        return self.config.map_weight * torch.stack(losses).sum() + IMAGE_WEIGHT * judged
