"""Method of golden parts: compares a part, place by place, with the features of one to sixteen perfect parts.

Ours. A memory bank of one part tells whether a patch looks like any patch of a good part; this also tells whether it is
in the right place. Only the scale of the features is learnt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.adapt.frozen_backbone import check_backbone
from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead.heads.local import GOLDEN, GOLDEN_LOOK, LocalHead
from edgead.heads.placing import STAYS, Placer
from edgead.workstation.backbones.extraction import extract_patches
from edgead.workstation.backbones.patch_features import PatchFeatures
from edgead.workstation.backbones.pretrained import Backbone, build_backbone, layer_shapes
from edgead.workstation.methods.network import NetworkMethod

MAX_PARTS = 16


@dataclass(frozen=True)
class GoldenConfig(MethodConfig):
    """Settings of golden.

    Attributes
    ----------
    backbone, layers : str, tuple of str
        See `edgead.workstation.backbones.pretrained`.
    image_size : (int, int)
        Height and width that images are resized to.
    fill : {"stretch", "reflect"}
        Treatment of images with other proportions: stretched, or padded with their reflection.
    damp_length : bool
        Damp the length of standardised features; see `edgead.workstation.backbones.patch_features`.
    reach : int
        Distance in rows and columns within which a patch is compared with golden ones. Farther from its place a
        feature is misplaced.
    both_ways : bool
        Also search each golden patch in the part, which finds missing things.
    look_px : int
        Pixels on each side per grey level of the image by which a part is registered with the first golden one, by
        shift and small rotation; 0 for no registration.
    window, top_patches : int
        For the image score patch scores are averaged over windows of `window` patches on each side, and the
        `top_patches` largest averages are averaged.
    margin : int
        Number of outermost rings of patches that the image score leaves out.
    sigma_px : float
        Smoothing of the anomaly map.
    seed : int
        Every method takes one; here nothing is drawn at random.
    """

    backbone: str = "efficientnet_lite2"
    layers: tuple[str, ...] = ("stride4",)
    image_size: tuple[int, int] = (448, 448)
    fill: Literal["stretch", "reflect"] = "stretch"
    damp_length: bool = True
    reach: int = 2
    both_ways: bool = True
    look_px: int = 4
    window: int = 3
    top_patches: int = 3
    margin: int = 1
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        check_backbone(self.backbone, self.layers)


class GoldenFeatures(PatchFeatures):
    """Network of patch features and of the small grey image by which a part is registered.

    `backbone`, `channels`, `damp_length`: parameters of `PatchFeatures`.
    `look_px`: pixels of the image on each side per pixel of the grey image.
    """

    def __init__(self, backbone: Backbone, channels: Sequence[int], *, damp_length: bool, look_px: int):
        super().__init__(backbone, channels, damp_length=damp_length)
        self.look_px = look_px

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """uint8 RGB (n, h, w, 3) -> features, float32 (n, h', w', d), and grey levels, float32 (n, h'', w'')."""
        return super().forward(image), self.look(image)

    def look(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> grey levels, float32 (n, h'', w'').

        Green only, whose means are exact in float32, so that registration is the same on every runtime.
        """
        green = image.float()[..., 1]  # to float first, the only operation of TensorRT on 8-bit numbers
        return F.avg_pool2d(green[:, None], self.look_px)[:, 0]


class GoldenMethod(NetworkMethod[GoldenConfig]):
    """Detector that finds missing, added or misplaced things by comparing places with one to sixteen golden parts."""

    network: PatchFeatures

    name = "golden"
    config_class = GoldenConfig
    presets = {
        "fast": {"backbone": "efficientnet_lite0", "image_size": (320, 320)},
        "default": {},
        "fine": {"image_size": (640, 640), "sigma_px": 6.0},
    }
    purpose = "one to sixteen golden parts and no more; everything is for review until `edgead calibrate`"
    preset_purposes = {
        "fast": "tight budgets and large differences",
        "default": "first",
        "fine": "tiny differences, as on circuit boards",
    }
    calibrated = False
    compares_places = True

    def __init__(self, config: GoldenConfig = GoldenConfig(), *, weights: Path | None = None, pretrained: bool = True):
        super().__init__(config)
        backbone = build_backbone(
            config.backbone, config.layers, image_size=config.image_size, weights=weights, pretrained=pretrained
        )
        shapes = layer_shapes(backbone, config.image_size)
        self.grid = shapes[0][1:]
        channels = [shape[0] for shape in shapes]
        self.network = (
            GoldenFeatures(backbone, channels, damp_length=config.damp_length, look_px=config.look_px)
            if config.look_px
            else PatchFeatures(backbone, channels, damp_length=config.damp_length)
        ).eval()
        self.golden: dict[str, np.ndarray] = {}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return self.golden

    @property
    def head(self) -> LocalHead:
        config = self.config
        return LocalHead(
            reach=config.reach,
            both_ways=config.both_ways,
            look_px=config.look_px,
            window=config.window,
            top_patches=config.top_patches,
            margin=config.margin,
            sigma_px=config.sigma_px,
        )

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Store the features of the golden parts, aligned with the first one; there is nothing to resume."""
        if not 1 <= len(images) <= MAX_PARTS:
            raise SettingsError(
                f"golden compares with 1 to {MAX_PARTS} golden parts, found {len(images)} images: put the best of "
                "them into a folder of their own, or take --detector patchcore, which learns from many"
            )
        parts = [images[index] for index in range(len(images))]
        if isinstance(self.network, GoldenFeatures):
            look = self._look(parts[0])
            placer = Placer(look)
            parts = [parts[0], *(_laid(part, placer.find(self._look(part)), self.config.look_px) for part in parts[1:])]
            self.golden[GOLDEN_LOOK] = look
        self.golden[GOLDEN] = extract_patches(
            self.network,
            parts,
            self.grid,
            max_patches=len(parts) * math.prod(self.grid),
            rng=np.random.default_rng(self.config.seed),
            device=course.device,
            progress=partial(course.progress, "extract features"),
        )

    def _look(self, image: np.ndarray) -> np.ndarray:
        assert isinstance(self.network, GoldenFeatures)
        return self.network.look(torch.from_numpy(image)[None])[0].numpy()


def _laid(part: np.ndarray, transform: np.ndarray, look_px: int) -> np.ndarray:
    """Align a golden part with the first one, by a transform in pixels of the small grey images."""
    if transform is STAYS:
        return part
    turn, shift = transform[:, :2], transform[:, 2]
    # The centre of a pixel of the look, in pixels of the image, is look_px (x + 1/2) - 1/2.
    half = np.full(2, 0.5)
    in_image = np.column_stack([turn, look_px * (turn @ (half / look_px - half) + shift + half) - half])
    return cv2.warpAffine(part, in_image, part.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
