"""Base of detectors based on texts: the user's complete CLIP compares images with a good and an anomalous text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.adapt.methods.method import Config
from edgead.artifact.files import file_sha256
from edgead.artifact.manifest import LearnsFrom
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.methods.network import NetworkMethod
from edgead_foundation.backbones.files import read_text_tower
from edgead_foundation.backbones.names import CLIP, TOWERS, Positions
from edgead_foundation.backbones.towers import build_tower
from edgead_foundation.clip.clip_text import TextTower


class ClipTower(nn.Module):
    """Tower of CLIP with the normalisation of uint8 images.

    `tower` (nn.Module): tower of timm for images of one size.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tower: Any):
        super().__init__()
        self.tower = tower
        self.grid: tuple[int, int] = tower.patch_embed.grid_size
        for name in ("mean", "std"):
            self.register_buffer(name, 255 * torch.tensor(tower.pretrained_cfg[name]).view(1, 3, 1, 1))

    def tokens(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> tokens with position embeddings, the class token first, (n, 1 + patches, d)."""
        patches = self.tower.patch_embed((image.float().permute(0, 3, 1, 2) - self.mean) / self.std)
        first = self.tower.cls_token.expand(patches.shape[0], -1, -1)  # `len` would become a constant of the graph
        return torch.cat([first, patches], dim=1) + self.tower.pos_embed


class WordsNetwork(ClipTower):
    """Image tower of CLIP with two texts, good and anomalous, with which an image and its patches are compared.

    `tower` (nn.Module): parameter of `ClipTower`.
    `temperature`: divisor of cosines before the softmax.
    """

    texts: Tensor

    def __init__(self, tower: Any, temperature: float):
        super().__init__(tower)
        self.temperature = temperature
        self.register_buffer("texts", F.normalize(torch.ones(2, tower.num_classes), dim=-1))

    def set_texts(self, texts: Tensor) -> None:
        """Set the embeddings of the good and the anomalous text, (2, d) of any length, as constants of the network."""
        self.texts.copy_(F.normalize(texts.detach(), dim=-1))

    def anomalous(self, embeddings: Tensor) -> Tensor:
        """Probability of the anomalous text: embeddings (..., d) -> 0..1, (...)."""
        return self.shares(embeddings, self.texts)[..., 1]

    def shares(self, embeddings: Tensor, texts: Tensor) -> Tensor:
        """Embeddings (..., d) and texts (2, d) of length 1 -> probabilities of both texts, (..., 2)."""
        cosines = F.normalize(embeddings, dim=-1) @ texts.T
        return (cosines / self.temperature).softmax(dim=-1)


class WordsMethod(NetworkMethod[Config]):
    """Base of methods made only from texts, which learn nothing from images.

    A subclass builds its network, with outputs `patch_scores` and `image_score`, and its texts.

    `plain_gelu`: whether the method's authors use GELU for OpenAI's CLIP, although it was trained with QuickGELU.
    `positions` ({"antialiased", "bilinear"}): interpolation of positions to the image size in the authors' code; by
        default the tower's.
    `text`: text tower; absent if the tower has no weights.
    """

    learns_from: ClassVar[LearnsFrom] = "nothing"
    calibrated: ClassVar[bool] = False
    positions: ClassVar[Positions | None] = None
    plain_gelu: ClassVar[bool] = False
    network: ClipTower

    def __init__(self, config: Config, *, weights: Path | None = None, pretrained: bool = True):
        super().__init__(config)
        settings: Any = config
        name = settings.backbone
        if pretrained and weights is None:
            raise SettingsError(
                f"{self.name} needs a whole CLIP, {name}: give its file with --weights, see the page Detect with words "
                "only"
            )
        tower: Any = build_tower(
            name, settings.image_size, weights=weights, pretrained=pretrained, positions=self.positions
        )
        if self.plain_gelu:
            for block in tower.blocks:
                block.mlp.act = nn.GELU()
        self.network = self.build(tower).eval().requires_grad_(False)
        self.text: TextTower | None = None
        if pretrained and weights is not None:
            self.text = TextTower.of(read_text_tower(weights, name), quick_gelu=self.quick_gelu)

    @abstractmethod
    def build(self, tower: nn.Module) -> ClipTower:
        """Build the network around a tower."""

    @property
    def quick_gelu(self) -> bool:
        """Whether the text tower uses the activation of OpenAI's trainings."""
        settings: Any = self.config
        return TOWERS[settings.backbone].family is CLIP and not self.plain_gelu

    @property
    def notes(self) -> Mapping[str, Any]:
        """Facts for the manifest about prompts that come from a file."""
        prompts = getattr(self.config, "prompts", None)
        return {} if prompts is None or self.text is None else {"prompts_sha256": file_sha256(Path(prompts))}

    @property
    def head(self) -> MapHead:
        settings: Any = self.config
        return MapHead(patch_weight=0, graph_weight=1, sigma_px=settings.sigma_px)


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless the temperature is positive."""
    if temperature <= 0:
        raise ValueError(f"temperature {temperature}: give a positive number, such as 0.07")


def check_clip(name: str) -> None:
    """Raise ValueError unless a backbone is a tower of CLIP."""
    known = [known for known, tower in TOWERS.items() if tower.has_text]
    if name not in known:
        raise ValueError(f"backbone {name!r} has no text tower: choose one of {', '.join(known)}")


def check_paths(name: str, layers: Sequence[str], refined: int) -> None:
    """Raise ValueError unless a tower has all of these layers, at least one, and at least `refined` blocks."""
    tower = TOWERS[name]
    unknown = [layer for layer in layers if layer not in tower.layers]
    if unknown or not layers:
        raise ValueError(f"layers {list(layers)} of {name}: choose from {', '.join(tower.layers)}")
    if not 1 <= refined <= tower.depth:
        raise ValueError(f"refined_blocks {refined}: give 1 to {tower.depth}, the blocks of the tower")


def block_numbers(layers: Sequence[str]) -> list[int]:
    """Parse the numbers of blocks from their names, in rising order."""
    return sorted({int(layer.removeprefix("block")) for layer in layers})
