"""INP-Former: Luo et al., "Exploring Intrinsic Normal Prototypes within a Single Image for Universal Anomaly
Detection", CVPR 2025 (arXiv 2503.02424)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgead.adapt.frozen_backbone import check_backbone
from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.methods.network import NetworkMethod
from edgead.workstation.trainer.device import CPU
from edgead_foundation.backbones.files import read_inp_former
from edgead_foundation.backbones.names import TOWERS
from edgead_foundation.backbones.towers import TowerBackbone, build_tower
from edgead_foundation.inp_former.network import InpNetwork
from edgead_foundation.inp_former.reconstruction import BLOCKS, PROTOTYPES, Reconstruction
from edgead_foundation.inp_former.training import TrainingSchedule, train

GROUPS = 2


@dataclass(frozen=True)
class InpFormerConfig(MethodConfig):
    """Settings of INP-Former; the defaults are those of the authors' scripts.

    Attributes
    ----------
    backbone : str
        Tower of `edgead_foundation.backbones.names`; the authors use towers of DINOv2 with registers.
    layers : tuple of str
        An even number of layers: the means of the first half and of the second half are reconstructed.
    image_size : (int, int)
        Height and width. The authors resize to 448 pixels and crop 392 from the middle; here the whole image is used,
        at the same scale, as a defect at the border counts too.
    prototypes : int
        Number of prototypes extracted from each image.
    blocks : int
        Number of decoder blocks, even.
    epochs : int
        Passes over all images; 0 uses the authors' trained weights, their `model.pth`, unchanged.
    batch_images : int
    learning_rate : float
        Learning rate of StableAdamW; falls to a tenth by a cosine.
    warm_up : int
        Number of steps in which the rate rises from 0.
    map_size : int
        Side of the map from which the image score is computed; at most the image's side.
    top_share : float
        Share of the map's largest values whose mean is the image score.
    seed : int
    """

    backbone: str = "dinov2_vitb14_reg"
    layers: tuple[str, ...] = tuple(f"block{number}" for number in range(3, 11))
    image_size: tuple[int, int] = (448, 448)
    prototypes: int = PROTOTYPES
    blocks: int = BLOCKS
    epochs: int = 200
    batch_images: int = 16
    learning_rate: float = 1e-3
    warm_up: int = 100
    map_size: int = 256
    top_share: float = 0.01

    def __post_init__(self) -> None:
        if self.backbone not in TOWERS:
            raise SettingsError(
                f"backbone {self.backbone!r} has no tokens: inp_former needs one of {', '.join(TOWERS)}"
            )
        check_backbone(self.backbone, self.layers)
        if len(set(self.layers)) % GROUPS or self.blocks % GROUPS or self.blocks < GROUPS:
            raise SettingsError(
                f"layers and blocks are halved, so give even numbers of them, found {len(set(self.layers))} and "
                f"{self.blocks}"
            )
        least = min(self.prototypes, self.epochs + 1, self.batch_images, self.map_size)
        if least < 1 or not 0 < self.top_share <= 1:
            raise SettingsError(
                "prototypes, batch_images and map_size must be at least 1, epochs at least 0, top_share at most 1 and "
                "above 0"
            )
        if self.map_size > min(self.image_size):
            raise SettingsError(f"map_size {self.map_size} is more than image_size {list(self.image_size)} has pixels")


class InpFormer(NetworkMethod[InpFormerConfig]):
    """Learns to reconstruct a frozen transformer's tokens from a few prototypes of the same image.

    `weights` is a file of the tower, or the authors' `model.pth`, from which training continues.
    """

    network: InpNetwork

    name = "inp_former"
    config_class = InpFormerConfig
    presets = {
        "default": {},
        "small": {"backbone": "dinov2_vits14_reg"},
        "large": {"backbone": "dinov2_vitl14_reg", "layers": tuple(f"block{number}" for number in range(5, 20, 2))},
        "trained": {"epochs": 0},
    }
    purpose = "one model for several products, with DINOv2 (--weights) and a GPU to train on"
    preset_purposes = {
        "default": "as published, on DINOv2 ViT-B/14 with registers",
        "small": "the same on ViT-S/14, in a third of the time",
        "large": "the same on ViT-L/14, in three times the time",
        "trained": "the authors' own trained weights (--weights model.pth) as they are: nothing is learnt",
    }

    def __init__(
        self, config: InpFormerConfig = InpFormerConfig(), *, weights: Path | None = None, pretrained: bool = True
    ):
        super().__init__(config)
        tower = TOWERS[config.backbone]
        trained = read_inp_former(weights) if pretrained and weights else {}
        if pretrained and not (trained or config.epochs):
            raise SettingsError(
                "epochs=0 learns nothing, and nothing trained is given: give the authors' model.pth with --weights, or "
                "more epochs"
            )
        # The authors interpolate positions like DINO, while DINOv2's own code antialiases them.
        network = build_tower(
            config.backbone, config.image_size, weights=weights, pretrained=pretrained, positions="offset"
        )
        backbone = TowerBackbone(network, config.layers).eval().requires_grad_(False)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            reconstruction = Reconstruction(
                tower.width, tower.heads, blocks=config.blocks, groups=GROUPS, prototypes=config.prototypes
            )
            reconstruction.draw()
        if weights and trained:
            reconstruction.load_authors(trained, weights)
        grid = (config.image_size[0] // tower.patch, config.image_size[1] // tower.patch)
        self.network = InpNetwork(backbone, reconstruction, grid, config.image_size, config.map_size).eval()

    @property
    def head(self) -> MapHead:
        """Head for the authors' map, which is already smoothed and whose largest values are the image score."""
        count = int(self.config.map_size**2 * self.config.top_share)
        return MapHead(window=1, top_patches=max(1, count), sigma_px=0.0)

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Train on good images, of one product or of several."""
        config = self.config
        if not config.epochs:
            return
        plan = TrainingSchedule(
            images=len(images),
            epochs=config.epochs,
            batch=config.batch_images,
            learning_rate=config.learning_rate,
            warm_up=config.warm_up,
            seed=config.seed,
        )
        self.network.to(course.device)
        train(self.network, images, plan, course)
        self.network.to(CPU).eval()
