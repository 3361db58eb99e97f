"""LSFA on colours and height maps, after Tu et al. (arXiv 2401.03145): features adapted to a product.

Adaptors, losses and `turn_blocks` are the authors'. They use DINO for colours, Point-MAE for point clouds, two memory
banks and a one-class SVM over both scores; edgead uses its backbone for both, heights as a relief, and one bank for
both. They learn one pair of adaptors for ten products, in two epochs; edgead learns a pair for each product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from edgead.adapt.methods.method import Course
from edgead.adapt.methods.patchcore import PatchCore, PatchCoreConfig
from edgead.errors import SettingsError
from edgead.workstation.backbones.patch_features import PatchFeatures
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU, choose_device
from edgead.workstation.trainer.loop import descend, run_steps
from edgead_height.lsfa.losses import Bank, Banks, Features, adaptation_loss
from edgead_height.lsfa.network import AdaptedPairs, patches_of

_BETAS = (0.9, 0.95)
_CHUNK = 8
_WHOLE_PARTS = 100
BLOCK = 4  # side in pixels of the squares that are turned


@dataclass(frozen=True)
class LsfaConfig(PatchCoreConfig):
    """Settings of LSFA: the settings of patchcore, and settings of the adaptation.

    Attributes
    ----------
    image_size : (int, int)
        At 224 px there are 28 x 28 patches (the authors have 56 x 56); attention's cost is the square of their number.
    steps : int
    batch_images : int
    learning_rate : float
        Learning rate of AdamW, the authors' optimizer.
    heads : int
        Number of attention heads in both adaptors; the features of a patch are divided among them.
    bank_patches : int
        Number of latest patches that the compactness loss compares new patches with. The authors keep 60,000.
    """

    image_size: tuple[int, int] = (224, 224)
    damp_length: bool | Literal["auto"] = True
    steps: int = 200
    batch_images: int = 2
    learning_rate: float = 3e-4
    heads: int = 4
    bank_patches: int = 4000

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.steps, self.batch_images, self.heads, self.bank_patches) < 1:
            raise SettingsError("steps, batch_images, heads and bank_patches must be at least 1")


class Lsfa(PatchCore):
    """Learns how colour and height agree on good parts, and compares patches of both with a memory bank."""

    name = "lsfa"
    inputs = ("rgb_relief",)  # type: ignore[assignment]  # one of those that patchcore has
    config_class = LsfaConfig
    presets = {"default": {}}
    purpose = "to compare with patchcore on colours with height: adapts features to the product"
    preset_purposes = {"default": "after the paper: a CPU to train on; minutes"}

    config: LsfaConfig

    def __init__(
        self,
        config: LsfaConfig = LsfaConfig(),
        *,
        weights: Path | None = None,
        pretrained: bool = True,
        channels: int = 6,
    ):
        super().__init__(config, weights=weights, pretrained=pretrained, channels=channels)
        plain = super().torch_network()
        widths = plain.channels[: len(plain.channels) // 2]
        if sum(widths) % config.heads:
            raise SettingsError(
                f"heads {config.heads}: the {sum(widths)} features of a patch cannot be divided among them"
            )
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.adapted = AdaptedPairs(plain.backbone, widths, config.heads)

    @property
    def is_packaged(self) -> bool:
        return False

    def torch_network(self) -> PatchFeatures:
        # A layer for each modality, so that both have the same weight in a distance.
        return PatchFeatures(self.adapted, 2 * [self.adapted.width], damp_length=True, whiten=True).eval()

    def choose_device(self, name: str) -> torch.device:
        return choose_device(name)

    @property
    def leaves_out(self) -> bool:
        """False: no image can be scored as if unseen, as the adaptors have learnt from every image."""
        return False

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Adapt the features of both modalities, then fill the memory bank with them."""
        self._adapt(images, course)
        super().learn(images, course)

    def _adapt(self, images: Sequence[np.ndarray], course: Course) -> None:
        config, adapted = self.config, self.adapted.to(course.device)
        found = []
        for start in range(0, len(images), _CHUNK):
            chunk = [images[index] for index in range(start, min(start + _CHUNK, len(images)))]
            found.append(self._raw(chunk, course.device))
            course.progress("extract features", start + len(chunk), len(images))
        raw = torch.cat(found)
        adapted.mean.copy_(raw.mean(dim=(0, 3, 4))[..., None, None])
        adapted.inverse_std.copy_(1 / raw.std(dim=(0, 3, 4)).clamp(min=1e-6)[..., None, None])
        colour, height = (patches_of(x) for x in adapted.scaled(raw).unbind(1))
        banks = Banks(*map(Bank, (config.bank_patches, config.bank_patches, _WHOLE_PARTS, _WHOLE_PARTS)))
        adaptors = adapted.adaptors.train()
        optimizer = torch.optim.AdamW(adaptors.parameters(), lr=config.learning_rate, betas=_BETAS)

        def step(number: int, rng: np.random.Generator) -> Tensor:
            picked = rng.choice(len(images), min(config.batch_images, len(images)), replace=False).tolist()
            turned = adapted.scaled(self._raw([turn_blocks(images[index], rng) for index in picked], course.device))
            features = Features(colour[picked], height[picked], patches_of(turned[:, 0]))
            loss = adaptation_loss(adaptors, features, banks)
            return descend(loss, optimizer)

        # No checkpoint, which would need the banks, as the training takes only minutes.
        run_steps(step, Learner(adaptors, [optimizer]), config.steps, seed=config.seed, progress=course.progress)
        adapted.to(CPU).eval()

    @torch.no_grad()
    def _raw(self, images: Sequence[np.ndarray], device: torch.device) -> Tensor:
        """Compute features of colour and height, before adaptors, (n, 2, width, h', w')."""
        return self.adapted.raw(torch.from_numpy(np.stack(images)).to(device).float().permute(0, 3, 1, 2))


def turn_blocks(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn each square of `BLOCK` pixels of an image (h, w, c) by a random number of quarters; the rest stays.

    The authors compare this view with the image within one modality: shapes stay in place, finer texture is mixed.
    """
    rows, columns = (side // BLOCK for side in image.shape[:2])
    whole = image[: rows * BLOCK, : columns * BLOCK]
    blocks = whole.reshape(rows, BLOCK, columns, BLOCK, -1).swapaxes(1, 2)
    quarters = rng.integers(4, size=(rows, columns))[:, :, None, None, None]
    for number in range(1, 4):
        blocks = np.where(quarters == number, np.rot90(blocks, number, axes=(2, 3)), blocks)
    turned = image.copy()
    turned[: rows * BLOCK, : columns * BLOCK] = blocks.swapaxes(1, 2).reshape(whole.shape)
    return turned
