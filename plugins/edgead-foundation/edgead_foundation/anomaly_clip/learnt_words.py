"""Base of AnomalyCLIP and Crane: two prompts, read from the authors' files or learnt from other products."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU
from edgead_foundation.anomaly_clip.prompts import Prompts, read_prompts
from edgead_foundation.anomaly_clip.training import Epochs, LabelledSet, learn_labelled
from edgead_foundation.clip.words import WordsMethod, WordsNetwork, check_clip, check_paths, check_temperature


@dataclass(frozen=True)
class LearntWordsConfig(MethodConfig):
    """Settings common to AnomalyCLIP and Crane.

    Attributes
    ----------
    backbone : str
        A tower of CLIP, see `edgead_foundation.backbones.names`.
    layers : tuple of str
        Blocks whose patches are compared with the prompts.
    image_size : (int, int)
        Height and width that images are resized to.
    refined_blocks : int
        Number of last blocks that also have the second path, see `value_paths.two_paths`.
    prompts : str, optional
        File of learnt prompts, an authors' checkpoint.
    auxiliary : tuple of str
        Folders of other products in MVTec layout, from whose test images and masks the prompts are learnt if `prompts`
        names no file.
    context, deep_context, deep_blocks : int
        Numbers of learnt tokens of a prompt, of tokens that later blocks of the text tower replace by other learnt
        tokens, and of these blocks.
    epochs, batch_size : int
    learning_rate : float
        Learning rate of Adam.
    temperature : float
        Divisor of cosines before the softmax.
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

    def __post_init__(self) -> None:
        check_clip(self.backbone)
        check_temperature(self.temperature)
        check_paths(self.backbone, self.layers, self.refined_blocks)
        if not 1 <= self.deep_context <= self.context:
            raise ValueError(f"deep_context {self.deep_context}: give 1 to {self.context}, the tokens of the context")
        if min(self.epochs, self.batch_size) < 1 or self.deep_blocks < 0:
            raise ValueError("epochs and batch_size must be at least 1, deep_blocks at least 0")


Config = TypeVar("Config", bound=LearntWordsConfig)


class LearntWords(WordsMethod[Config]):
    """Judges by prompts that were learnt on other products; it learns nothing from this product.

    A subclass builds its network and computes the loss.

    `prompts_file`: name of the authors' file.
    `betas`: betas of Adam.
    `prompts`: learnt prompts; absent if the tower has no weights.
    """

    positions = "bilinear"
    network: WordsNetwork
    prompts_file: ClassVar[str]
    betas: ClassVar[tuple[float, float]]

    def __init__(self, config: Config, *, weights: Path | None = None, pretrained: bool = True):
        if pretrained:
            check_source(self.name, config.prompts, config.auxiliary, self.prompts_file)
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

    @abstractmethod
    def loss(self, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch, see `LabelledSet.batch`; a scalar."""

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Learn the prompts from the auxiliary sets, unless a file has them; `images` are not used."""
        config, prompts = self.config, self.prompts
        if config.prompts is not None or prompts is None:
            return
        labelled = LabelledSet(list(map(Path, config.auxiliary)), self.preprocessing)
        for module in (self.network, self.text, prompts):
            module.to(course.device)  # type: ignore[union-attr]
        optimizer = torch.optim.Adam(prompts.parameters(), lr=config.learning_rate, betas=self.betas)

        def loss(picks: list[int]) -> Tensor:
            images, masks, labels = (each.to(course.device) for each in labelled.batch(picks))
            return self.loss(images, masks, labels)

        epochs = Epochs(len(labelled), config.batch_size, config.epochs, config.seed)
        learn_labelled(loss, Learner(prompts, [optimizer]), epochs, course)
        for module in (self.network, self.text, prompts):
            module.to(CPU)  # type: ignore[union-attr]
        self._take_texts()

    def _take_texts(self) -> None:
        assert self.prompts is not None and self.text is not None
        self.network.set_texts(self.prompts(self.text))


def check_source(name: str, prompts: str | None, auxiliary: Sequence[str], file: str) -> None:
    """Raise SettingsError unless there are learnt prompts, such as those in `file`, or images to learn them from."""
    if (prompts is None) == (not auxiliary):
        raise SettingsError(
            f"{name} takes learnt prompts, --set prompts={file}, or learns them from labelled images of other "
            "products, --set auxiliary=[FOLDER]: give one of the two"
        )
