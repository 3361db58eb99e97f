"""Names of foundation backbones: vision transformers pretrained on many millions of images.

Names are taken from the authors' hubs. OpenAI's CLIP uses QuickGELU, OpenCLIP's trainings use GELU, and the files of
both look the same: so each has its own name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.workstation.backbones.pretrained import Backbone

Positions = Literal["antialiased", "plain", "offset", "rotary", "bilinear"]
"""Interpolation of positions to another grid: bicubic with antialiasing; bicubic without, to a size, or by a scale with
a tenth of a patch added; none, as rotary positions are computed from the grid; or bilinear, as AnomalyCLIP and its
followers do for every family."""


@dataclass(frozen=True, slots=True)
class Family:
    """Family of towers from one training.

    `tag`: timm's name of the weights.
    `positions`: {"antialiased", "offset", "rotary"}.
    `licence`: licence of the weights.
    """

    tag: str
    positions: Positions
    licence: str


CLIP = Family("openai", "antialiased", "MIT")
OPENCLIP = Family("datacompxl", "antialiased", "MIT for those of OpenCLIP's DataComp-1B; others have their own")
LAION400M = Family("laion400m_e32", "antialiased", "MIT")
DINO = Family("dino", "offset", "Apache-2.0")
DINOV2 = Family("lvd142m", "offset", "Apache-2.0")
DINOV2_REG = Family("lvd142m", "antialiased", "Apache-2.0")
DINOV3 = Family(
    "lvd1689m", "rotary", "DINOv3 License, https://ai.meta.com/resources/models-and-libraries/dinov3-license"
)


@dataclass(frozen=True, slots=True)
class Tower:
    """Pretrained vision transformer.

    `architecture`: name in timm.
    `patch`: side of a patch in pixels.
    `side`: side in pixels of the square images that its position embeddings are made for.
    `width`, `depth`, `heads`: channels of a token, number of blocks, and heads of each attention.
    """

    family: Family
    architecture: str
    patch: int
    side: int
    width: int = 768
    depth: int = 12
    heads: int = 12

    @property
    def licence(self) -> str:
        """Licence of the weights."""
        return self.family.licence

    @property
    def layers(self) -> tuple[str, ...]:
        """Names block1 .. block12 of the patch tokens after each block, before any last normalisation."""
        return tuple(f"block{number}" for number in range(1, self.depth + 1))

    @property
    def has_text(self) -> bool:
        """Whether the authors' files contain a text tower too."""
        return self.family in (CLIP, OPENCLIP, LAION400M)

    def build(
        self, layers: Sequence[str], image_size: tuple[int, int], weights: Path | None, pretrained: bool
    ) -> Backbone:
        """Build the tower as a backbone of edgead, see `edgead.workstation.backbones.pretrained.build_backbone`."""
        from edgead_foundation.backbones.towers import TowerBackbone, build_tower

        name = next(name for name, tower in TOWERS.items() if tower is self)
        return TowerBackbone(build_tower(name, image_size, weights=weights, pretrained=pretrained), layers)

    def check_image_size(self, image_size: tuple[int, int]) -> None:
        """Raise SettingsError unless both sides are multiples of the patch."""
        if any(side % self.patch for side in image_size):
            near = [max(1, round(side / self.patch)) * self.patch for side in image_size]
            raise SettingsError(
                f"image_size {list(image_size)}: this backbone has patches of {self.patch} pixels, so give multiples "
                f"of them, such as {near}"
            )


_SMALL = (384, 12, 6)
_LARGE = (1024, 24, 16)

TOWERS = {
    "clip_vitb32": Tower(CLIP, "vit_base_patch32_clip_quickgelu_224", 32, 224),
    "clip_vitb16": Tower(CLIP, "vit_base_patch16_clip_quickgelu_224", 16, 224),
    "clip_vitl14": Tower(CLIP, "vit_large_patch14_clip_quickgelu_224", 14, 224, *_LARGE),
    "clip_vitl14_336": Tower(CLIP, "vit_large_patch14_clip_quickgelu_336", 14, 336, *_LARGE),
    "openclip_vitb32": Tower(OPENCLIP, "vit_base_patch32_clip_224", 32, 224),
    "openclip_vitb16": Tower(OPENCLIP, "vit_base_patch16_clip_224", 16, 224),
    "openclip_vitl14": Tower(OPENCLIP, "vit_large_patch14_clip_224", 14, 224, *_LARGE),
    "openclip_vitb16_plus": Tower(LAION400M, "vit_base_patch16_plus_clip_240", 16, 240, 896, 12, 14),
    "dino_vits16": Tower(DINO, "vit_small_patch16_224", 16, 224, *_SMALL),
    "dino_vits8": Tower(DINO, "vit_small_patch8_224", 8, 224, *_SMALL),
    "dino_vitb16": Tower(DINO, "vit_base_patch16_224", 16, 224),
    "dino_vitb8": Tower(DINO, "vit_base_patch8_224", 8, 224),
    "dinov2_vits14": Tower(DINOV2, "vit_small_patch14_dinov2", 14, 518, *_SMALL),
    "dinov2_vitb14": Tower(DINOV2, "vit_base_patch14_dinov2", 14, 518),
    "dinov2_vitl14": Tower(DINOV2, "vit_large_patch14_dinov2", 14, 518, *_LARGE),
    "dinov2_vits14_reg": Tower(DINOV2_REG, "vit_small_patch14_reg4_dinov2", 14, 518, *_SMALL),
    "dinov2_vitb14_reg": Tower(DINOV2_REG, "vit_base_patch14_reg4_dinov2", 14, 518),
    "dinov2_vitl14_reg": Tower(DINOV2_REG, "vit_large_patch14_reg4_dinov2", 14, 518, *_LARGE),
    "dinov3_vits16": Tower(DINOV3, "vit_small_patch16_dinov3_qkvb", 16, 256, *_SMALL),
    "dinov3_vits16plus": Tower(DINOV3, "vit_small_plus_patch16_dinov3_qkvb", 16, 256, *_SMALL),
    "dinov3_vitb16": Tower(DINOV3, "vit_base_patch16_dinov3_qkvb", 16, 256),
    "dinov3_vitl16": Tower(DINOV3, "vit_large_patch16_dinov3_qkvb", 16, 256, *_LARGE),
}
