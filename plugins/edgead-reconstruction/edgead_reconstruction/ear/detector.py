"""EAR, "Excision And Recovery", after Park et al. (arXiv 2308.13068), and `obscure`, with edgead's own mask.

From the paper come the single deterministic mask, made of pretrained attention, the mosaic in place of the masked
pixels, and one pass through an ordinary U-Net. The authors' code is not public and we did not have the paper's numbers:
all numbers are edgead's, and losses and anomaly map are those of RIAD (Zavrtanik et al. 2021), on which EAR builds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from edgead.adapt.frozen_backbone import LITE
from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.backbones.pretrained import build_backbone
from edgead.workstation.methods.draem.perlin import perlin_mask
from edgead.workstation.methods.network import NetworkMethod
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU
from edgead.workstation.trainer.loop import descend, run_steps
from edgead_reconstruction.ear.network import SHRINK, EarNetwork, UNet, obscure, to_pixels
from edgead_reconstruction.ear.saliency import LAYER, PlaceSaliency, SaliencyMask, build_attention
from edgead_reconstruction.ear.similarity import inpainting_loss

OWN_SHARE = 0.5
"""Share of images trained with their own mask; others get random blobs, as own masks cover little of a good part."""


@dataclass(frozen=True)
class ObscureConfig(MethodConfig):
    """Settings of obscure.

    Attributes
    ----------
    image_size : (int, int)
        Height and width that images are resized to, multiples of 32 and of `mosaic`.
    saliency : {"places", "attention"}
        Base of the mask: distance from good images at the same place, or a DINO's attention as in the paper.
    backbone : str
        An EfficientNet-Lite for `places`; for `attention` a DINO such as dino_vits8, with its file by `--weights`.
    masked_share : float
        Share of the places of good images that the mask covers, before it is widened.
    mosaic : int
        Side of a tile of the mosaic, pixels; 0 leaves masked pixels empty.
    widths : tuple of int
        Channels of each level of the U-Net, finest first.
    steps : int
    batch_images : int
    learning_rate : float
        Learning rate of Adam; it falls to a tenth after three quarters of the steps.
    window : int
        Side of squares, in patches of 4 pixels, over which the map is averaged; the image score is the largest mean.
    sigma_px : float
        Smoothing of the anomaly map.
    seed : int
    """

    image_size: tuple[int, int] = (128, 128)
    saliency: Literal["places", "attention"] = "places"
    backbone: str = "efficientnet_lite0"
    masked_share: float = 0.05
    mosaic: int = 16
    widths: tuple[int, ...] = (16, 32, 64, 64)
    steps: int = 1200
    batch_images: int = 8
    learning_rate: float = 1e-3
    window: int = 5
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        step = max(32, 2 ** (len(self.widths) - 1))
        if any(side < step or side % step or (self.mosaic and side % self.mosaic) for side in self.image_size):
            raise SettingsError(
                f"image_size {list(self.image_size)}: give multiples of {step}, and of mosaic={self.mosaic}"
            )
        if not 0 < self.masked_share < 1:
            raise SettingsError(f"masked_share {self.masked_share}: a share between 0 and 1 is needed")
        if len(self.widths) < 2 or self.mosaic < 0 or min(*self.widths, self.steps, self.batch_images) < 1:
            raise SettingsError(
                "widths (two or more), steps and batch_images must be at least 1, and mosaic at least 0"
            )
        if self.saliency == "places" and self.backbone not in LITE:
            raise SettingsError(
                f"backbone {self.backbone!r}: saliency of places takes one of {', '.join(LITE)}; a DINO goes with "
                "saliency=attention"
            )


@dataclass(frozen=True)
class EarConfig(ObscureConfig):
    """Settings of EAR, the same as of `obscure`; the mask is the paper's, the numbers are edgead's."""

    image_size: tuple[int, int] = (256, 256)
    saliency: Literal["places", "attention"] = "attention"
    backbone: str = "dino_vits8"
    widths: tuple[int, ...] = (64, 128, 256, 512)
    steps: int = 20_000
    window: int = 21 // SHRINK


Config = TypeVar("Config", bound=ObscureConfig)


class EarMethod(NetworkMethod[Config], Generic[Config]):
    """Training and network of EAR, shared by `Obscure`, `Ear` and `Fader`."""

    network: EarNetwork

    def __init__(self, config: Config, *, weights: Path | None = None, pretrained: bool = True):
        super().__init__(config)
        size = config.image_size
        if config.saliency == "attention":
            saliency: torch.nn.Module = build_attention(config.backbone, size, weights, pretrained)
        else:
            backbone = build_backbone(
                config.backbone, (LAYER,), image_size=size, weights=weights, pretrained=pretrained
            )
            saliency = PlaceSaliency(backbone, size)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            unet = UNet(config.widths)
        self.network = EarNetwork(SaliencyMask(saliency), unet, config.mosaic).eval()

    @property
    def head(self) -> MapHead:
        return MapHead(window=self.config.window, sigma_px=self.config.sigma_px)

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Fit the saliency and its threshold to good images, then train the U-Net to reconstruct their masked parts."""
        config, network = self.config, self.network
        report = partial(course.progress, "find salient places")
        if isinstance(network.mask.saliency, PlaceSaliency):
            network.mask.saliency.fit(images, course.device, report)
        saliency = network.mask.fit(images, config.masked_share, course.device, report)
        unet = network.unet.to(course.device).train()
        optimizer = torch.optim.Adam(unet.parameters(), lr=config.learning_rate)

        def step(number: int, rng: np.random.Generator) -> Tensor:
            picked = rng.integers(len(images), size=config.batch_images)
            own = network.mask.of_saliency(saliency[picked].to(course.device), config.image_size)
            blobs = np.stack([perlin_mask(config.image_size, rng) for _ in picked])[:, None]
            takes_own = torch.from_numpy(rng.random((len(picked), 1, 1, 1)) < OWN_SHARE).to(course.device)
            masks = torch.where(takes_own, own, torch.from_numpy(blobs).to(own))
            batch = torch.from_numpy(np.stack([images[i] for i in picked.tolist()])).to(course.device)
            pixels = to_pixels(batch)
            rebuilt, _ = unet(obscure(pixels, masks, config.mosaic))
            loss = inpainting_loss(pixels, rebuilt)
            return descend(loss, optimizer)

        run_steps(
            step,
            Learner(unet, [optimizer]),
            config.steps,
            seed=config.seed,
            schedule=lambda number: 1.0 if 4 * number < 3 * config.steps else 0.1,
            checkpoint=course.checkpoint,
            progress=course.progress,
        )
        network.to(CPU).eval()


class Obscure(EarMethod[ObscureConfig]):
    """EAR's network with edgead's own mask: places whose features differ from good images at the same place."""

    name = "obscure"
    config_class = ObscureConfig
    purpose = "to compare on your own parts: a small network that scores by what it cannot make again"
    preset_purposes = {"default": "ours, after EAR: a CPU to train on; minutes"}

    def __init__(
        self, config: ObscureConfig = ObscureConfig(), *, weights: Path | None = None, pretrained: bool = True
    ):
        super().__init__(config, weights=weights, pretrained=pretrained)


class Ear(EarMethod[EarConfig]):
    """EAR: learns to reconstruct suspicious places, by a DINO's attention, from a coarse mosaic of them."""

    name = "ear"
    config_class = EarConfig
    purpose = "to compare with obscure: its mask is the paper's"
    preset_purposes = {"default": "after the paper, its mask by a DINO's attention: a GPU, and a file of weights"}

    @classmethod
    def variant(cls, settings: Mapping[str, Any]) -> type[Self]:
        # Models of the name `ear` have that mask, where they were made before `obscure` had a name.
        return cast("type[Self]", Obscure) if settings.get("saliency") == "places" else cls

    def __init__(self, config: EarConfig = EarConfig(), *, weights: Path | None = None, pretrained: bool = True):
        super().__init__(config, weights=weights, pretrained=pretrained)
