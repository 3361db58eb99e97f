"""FiLo (Gu et al. 2024): image-aware words for possible defects of a product, and patches of several shapes.

Network, words, losses and scores are those of the authors' code without boxes (`tests/test_filo_authors.py`). With
boxes, the authors ask a Grounding DINO where anomalies are, use the words of that place, and lower the map elsewhere:
`edgead_foundation.filo.boxes` does that on the workstation, not on devices. The setting "map" of `place` is edgead's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.trainer.device import CPU
from edgead_foundation.anomaly_clip.learnt_words import check_source
from edgead_foundation.anomaly_clip.training import LabelledSet
from edgead_foundation.backbones.names import TOWERS
from edgead_foundation.clip.clip_text import TextTower
from edgead_foundation.clip.words import WordsMethod, block_numbers, check_clip, check_paths
from edgead_foundation.filo.files import SOURCE, load_learnt
from edgead_foundation.filo.network import OWN_BLOCKS, FiloNetwork
from edgead_foundation.filo.training import Product, adapter_stage, learn_stages, main_stage
from edgead_foundation.filo.words import (
    PLACES,
    FiloWords,
    Sentences,
    anomalous_sentences,
    good_sentences,
    read_descriptions,
)


@dataclass(frozen=True)
class FiloConfig(MethodConfig):
    """Settings of filo.

    Attributes
    ----------
    backbone : str
        A tower of CLIP, see `edgead_foundation.backbones.names`.
    layers : tuple of str
        Blocks whose patches are decoded, from block6 on.
    image_size : (int, int)
        Height and width that images are resized to.
    part : str
        Name of the part in English: "metal nut", "printed circuit board".
    details : tuple of str
        Possible defects: "bent", "scratches on the thread"; five general words are added.
    descriptions : str, optional
        YAML file of details by part: for `part` if `details` is empty, and for auxiliary products.
    place : str
        Place in the words: "all" weighs all nine places equally, as in the authors' training; "map", edgead's, weighs
        them by the resulting map; or one place, such as "center", which the authors use without a box.
    prompts : str, optional
        File of the authors' learnt modules: prompts, decoders, adapter.
    auxiliary : tuple of str
        Folders of other products by name, in MVTec layout; without a file, the modules are learnt from their test
        images and masks.
    context : int
        Number of learnt tokens in a sentence.
    epochs, adapter_epochs : int
        Epochs of prompts and decoders, and of the adapter after them.
    learning_rate, decoder_learning_rate, adapter_learning_rate : float
        Learning rates of AdamW.
    seed : int
    """

    backbone: str = "clip_vitl14_336"
    layers: tuple[str, ...] = ("block6", "block12", "block18", "block24")
    image_size: tuple[int, int] = (518, 518)
    part: str = "object"
    details: tuple[str, ...] = ()
    descriptions: str | None = None
    place: str = "all"
    prompts: str | None = None
    auxiliary: tuple[str, ...] = ()
    context: int = 12
    epochs: int = 15
    adapter_epochs: int = 5
    learning_rate: float = 1e-3
    decoder_learning_rate: float = 1e-4
    adapter_learning_rate: float = 1e-5

    def __post_init__(self) -> None:
        check_clip(self.backbone)
        depth = TOWERS[self.backbone].depth
        check_paths(self.backbone, self.layers, max(1, depth - OWN_BLOCKS))
        blocks = block_numbers(self.layers)
        if blocks[0] != OWN_BLOCKS or len(blocks) < 2:
            raise ValueError(f"layers {list(self.layers)}: filo takes block{OWN_BLOCKS} and at least one after it")
        if not self.part.strip():
            raise ValueError("part is empty: say what the images show, such as part='metal nut'")
        if self.place not in ("all", "map", *PLACES):
            raise ValueError(f"place {self.place!r}: choose one of all, map, {', '.join(PLACES)}")
        if min(self.context, self.epochs, self.adapter_epochs) < 1:
            raise ValueError("context, epochs and adapter_epochs must be at least 1")


class Filo(WordsMethod[FiloConfig]):
    """Judges by sentences about possible defects of the product; decoders and prompts were learnt on other products."""

    network: FiloNetwork

    name = "filo"
    config_class = FiloConfig
    presets = {"default": {}, "placed": {"place": "map"}}
    purpose = "words for what may be wrong, a file of CLIP and the authors' decoders; a GPU, and no image to learn from"
    preset_purposes = {
        "default": "the paper's network without boxes",
        "placed": "ours: words of where the map is high; no boxes either",
    }
    positions = "plain"
    plain_gelu = True

    def __init__(self, config: FiloConfig = FiloConfig(), *, weights: Path | None = None, pretrained: bool = True):
        if pretrained:
            check_source(self.name, config.prompts, config.auxiliary, SOURCE)
        super().__init__(_with_details(config), weights=weights, pretrained=pretrained)
        self._give_words()
        if self.text is not None and config.prompts is not None:
            load_learnt(self.network, Path(config.prompts))
        if self.text is None or config.prompts is not None:
            self.network.merge()
        self.network.eval().requires_grad_(False)

    def build(self, tower: nn.Module) -> FiloNetwork:
        with torch.random.fork_rng([]):
            torch.manual_seed(self.config.seed)
            return FiloNetwork(tower, block_numbers(self.config.layers), self.config.place)

    def _give_words(self) -> None:
        config, network = self.config, self.network
        embedded = network.tower.num_classes
        text = self.text or TextTower.untrained(embedded, quick_gelu=self.quick_gelu)
        if text.network.width != embedded:
            raise SettingsError(
                f"filo shows its prompts the image, {embedded} channels, and the text tower of {config.backbone} reads "
                f"{text.network.width}: take another backbone, such as clip_vitl14_336"
            )
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            network.words = FiloWords(text, config.context)
        network.good, network.anomalous = self.sentences(text, config.part, config.details, network.places)

    def sentences(
        self, text: TextTower, part: str, details: Sequence[str], places: Sequence[str]
    ) -> tuple[Sentences, Sentences]:
        """Make the sentences for a good part and for an anomalous part."""
        good, anomalous = good_sentences(part), anomalous_sentences(part, details, places)
        return Sentences(text, good, self.config.context), Sentences(text, anomalous, self.config.context)

    @property
    def head(self) -> MapHead:
        return MapHead(patch_weight=0, graph_weight=1, sigma_px=0)

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Learn from the auxiliary sets, unless a file has the learnt modules; `images` are not used."""
        config, network = self.config, self.network
        if config.prompts is not None or self.text is None:
            return
        products = self._products(self.text)
        stages = (
            main_stage(network, config.learning_rate, config.decoder_learning_rate, config.epochs),
            adapter_stage(network, config.adapter_learning_rate, config.adapter_epochs),
        )
        for module in (network, *(each for product in products for each in (product.good, product.anomalous))):
            module.to(course.device)
        learn_stages(network, products, stages, course, seed=config.seed)
        network.to(CPU).merge()
        network.requires_grad_(False)

    def _products(self, text: TextTower) -> list[Product]:
        config, found = self.config, []
        described = {} if config.descriptions is None else read_descriptions(Path(config.descriptions))
        for folder in map(Path, config.auxiliary):
            part = folder.resolve().name.replace("_", " ")
            words = self.sentences(text, part, described.get(part, ()), PLACES)
            found.append(Product(LabelledSet([folder], self.preprocessing), *words))
        return found


def _with_details(config: FiloConfig) -> FiloConfig:
    """Return the settings with the details of the part from the file, if it has them."""
    if config.descriptions is None or config.details:
        return config
    described = read_descriptions(Path(config.descriptions))
    if config.part not in described:
        raise SettingsError(
            f"{config.descriptions} says nothing of {config.part!r}: give part as one of {', '.join(described)}, or "
            "add a line"
        )
    return replace(config, details=described[config.part])
