"""AnomalyCLIP (Zhou et al. 2024): two learnt prompts for whatever the product is, and patches that stay local.

Network, prompts, losses and scores are those of the authors' code (`tests/test_words_authors.py`). The prompts are
learnt once, from labelled images of other products, or read from the authors' files; the product teaches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.methods.anomaly_clip_prompts import Prompts, read_prompts
from edgead.methods.anomaly_clip_training import MAP_WEIGHT, LabelledSet, image_loss, map_loss, order_of
from edgead.methods.checkpoint import Learner
from edgead.methods.device import CPU
from edgead.methods.loop import run_steps
from edgead.methods.method import Course
from edgead.methods.value_paths import two_paths
from edgead.methods.words import WordsMethod, WordsNetwork, block_numbers, check_clip, check_paths


@dataclass(frozen=True)
class AnomalyClipConfig:
    """Settings of anomaly_clip.

    Attributes
    ----------
    backbone : str
        A tower of CLIP, see `edgead.methods.tower_names`.
    layers : tuple of str
        Blocks whose patches are compared with the prompts; their maps are added. The authors' scripts take the last.
    image_size : (int, int)
        Height and width that images are resized to.
    refined_blocks : int
        How many of the last blocks have a path in which values attend to values.
    prompts : str, optional
        File of learnt prompts: the authors' epoch_15.pth.
    auxiliary : tuple of str
        Folders in MVTec layout, of other products, whose test images and masks the prompts are learnt from, where there
        is no file of them.
    context, deep_context, deep_blocks : int
        Learnt tokens of a prompt; those that are learnt again before each of so many further blocks of the text tower.
    epochs, batch_size : int
    learning_rate : float
        Of Adam.
    temperature : float
        Cosines are divided by it before the softmax.
    sigma_px : float
        Smoothing of the anomaly map.
    seed : int
    """

    backbone: str = "clip_vitl14_336"
    layers: tuple[str, ...] = ("block24",)
    image_size: tuple[int, int] = (518, 518)
    refined_blocks: int = 19
    prompts: str | None = None
    auxiliary: tuple[str, ...] = ()
    context: int = 12
    deep_context: int = 4
    deep_blocks: int = 8
    epochs: int = 15
    batch_size: int = 8
    learning_rate: float = 1e-3
    temperature: float = 0.07
    sigma_px: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_clip(self.backbone, self.temperature)
        check_paths(self.backbone, self.layers, self.refined_blocks)
        if not 1 <= self.deep_context <= self.context:
            raise ValueError(f"deep_context {self.deep_context}: give 1 to {self.context}, the tokens of the context")
        if min(self.epochs, self.batch_size) < 1 or self.deep_blocks < 0:
            raise ValueError("epochs and batch_size must be at least 1, deep_blocks at least 0")


class AnomalyClipNetwork(WordsNetwork):
    """Patches on the refined path, and the image on the tower's own, compared with two texts.

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
        layers = torch.stack([self.anomalous(each) for each in patches])
        return layers.sum(dim=0).unflatten(1, self.grid), self.anomalous(embedding)

    def embed(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """uint8 RGB (n, h, w, 3) -> the image's embedding (n, d), and those of patches of each layer, (n, patches, d).

        The authors' code projects the class token without the normalisation before it.
        """
        tokens, layers = two_paths(self.tower, self.tokens(image), self.blocks, self.refined)
        return self.tower.head(tokens[:, 0]), [self.tower.head(self.tower.norm(each[:, 1:])) for each in layers]


class AnomalyClip(WordsMethod[AnomalyClipConfig]):
    """Judges by prompts that were learnt on other products; nothing is learnt of this one."""

    network: AnomalyClipNetwork

    name = "anomaly_clip"
    config_class = AnomalyClipConfig
    presets = {
        "default": {},
        "layers": {"layers": ("block6", "block12", "block18", "block24")},
    }
    purpose = "a file of CLIP, a GPU, and no image to learn from; everything is for review until `edgead calibrate`"
    preset_purposes = {
        "default": "as in the authors' scripts",
        "layers": "the map from four blocks, as the authors' code has it without options",
    }
    positions = "bilinear"

    def __init__(
        self, config: AnomalyClipConfig = AnomalyClipConfig(), *, weights: Path | None = None, pretrained: bool = True
    ):
        if pretrained and (config.prompts is None) == (not config.auxiliary):
            raise SettingsError(
                "anomaly_clip takes learnt prompts, --set prompts=epoch_15.pth, or learns them from labelled images of "
                "other products, --set auxiliary=[FOLDER]: give one of the two"
            )
        super().__init__(config, weights=weights, pretrained=pretrained)
        self.prompts: Prompts | None = None
        if self.text is not None:
            width = self.text.network.width
            if config.prompts is not None:
                self.prompts = read_prompts(Path(config.prompts), width)
            else:
                with torch.random.fork_rng([]):
                    torch.manual_seed(config.seed)
                    self.prompts = Prompts(width, config.context, config.deep_context, config.deep_blocks)
            self._take_texts()

    def build(self, tower: nn.Module) -> AnomalyClipNetwork:
        config = self.config
        return AnomalyClipNetwork(tower, config.temperature, block_numbers(config.layers), config.refined_blocks)

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Learn the prompts from the auxiliary sets, where there is no file of them; `images` teach nothing."""
        config, prompts = self.config, self.prompts
        if config.prompts is not None or prompts is None:
            return
        labelled = LabelledSet(list(map(Path, config.auxiliary)), self.preprocessing)
        for module in (self.network, self.text, prompts):
            module.to(course.device)  # type: ignore[union-attr]
        optimizer = torch.optim.Adam(prompts.parameters(), lr=config.learning_rate, betas=(0.5, 0.999))

        def step(number: int, rng: np.random.Generator) -> Tensor:
            picks = order_of(len(labelled), config.batch_size, number, config.seed)
            image, masks, labels = (each.to(course.device) for each in labelled.batch(picks.tolist()))
            loss = self.loss(image, masks, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run_steps(
            step,
            Learner(prompts, [optimizer]),
            config.epochs * math.ceil(len(labelled) / config.batch_size),
            seed=config.seed,
            checkpoint=course.checkpoint,
            progress=course.progress,
        )
        for module in (self.network, self.text, prompts):
            module.to(CPU)  # type: ignore[union-attr]
        self._take_texts()

    def loss(self, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, see `LabelledSet.batch`; one number."""
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

    def _take_texts(self) -> None:
        assert self.prompts is not None and self.text is not None
        self.set_texts(self.prompts(self.text))
