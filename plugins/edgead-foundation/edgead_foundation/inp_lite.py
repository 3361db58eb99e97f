"""`inp_lite`, edgead's own detector: INP-Former's idea on features of a packaged backbone, small enough for a CPU.

From INP-Former (arXiv 2503.02424) are the prototypes, the decoder without a residual, the losses and the optimizer.
The features are those of `patchcore`, and the score is a Mahalanobis length of the reconstruction error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from edgead.adapt.frozen_backbone import LITE
from edgead.adapt.memory_bank.feature_space import inverse_root
from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.backbones.extraction import extract_patches
from edgead.workstation.backbones.patch_features import PatchFeatures
from edgead.workstation.backbones.pretrained import build_backbone, layer_shapes
from edgead.workstation.methods.network import NetworkMethod
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU
from edgead.workstation.trainer.loop import run_steps
from edgead_foundation.inp_former.reconstruction import Reconstruction
from edgead_foundation.inp_former.stable_adamw import StableAdamW
from edgead_foundation.inp_former.training import update, warm_cosine

LAYERS = ("stride8", "stride16")
WARM_UP = 0.1
COVARIANCE_IMAGES = 200


@dataclass(frozen=True)
class InpLiteConfig(MethodConfig):
    """Settings of `inp_lite`.

    Attributes
    ----------
    backbone : {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"}
    image_size : (int, int)
        Height and width that images are resized to.
    fill : {"stretch", "reflect"}
        Treatment of images with other proportions: stretched, or padded with their reflection.
    prototypes : int
        Number of prototypes extracted from each image.
    heads : int
        Number of heads in every attention; divides the channels of a patch.
    blocks : int
        Number of decoder blocks.
    ratio : int
        Channels inside an MLP, in multiples of a patch's.
    steps : int
        Number of updates; a step uses some patches of some images.
    batch_images, batch_patches : int
        Numbers of images in a step, and of reconstructed patches of each.
    seen_patches : int
        Number of patches of each image that are kept for training, all of which are used for its prototypes.
    learning_rate : float
        Learning rate of StableAdamW. It rises over a tenth of the steps and falls to a tenth by a cosine.
    max_patches : int
        Largest number of patches kept of all images together.
    window, top_patches : int
        For the image score patch scores are averaged over windows of `window` patches on each side, and the
        `top_patches` largest averages are averaged.
    margin : int
        Number of outermost rings of patches that the image score leaves out.
    sigma_px : float
        Smoothing of the anomaly map.
    seed : int
    """

    backbone: str = "efficientnet_lite2"
    image_size: tuple[int, int] = (320, 320)
    fill: Literal["stretch", "reflect"] = "stretch"
    prototypes: int = 6
    heads: int = 8
    blocks: int = 3
    ratio: int = 2
    steps: int = 600
    batch_images: int = 16
    batch_patches: int = 128
    seen_patches: int = 400
    learning_rate: float = 1e-3
    max_patches: int = 1_500_000
    window: int = 3
    top_patches: int = 10
    margin: int = 1
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        if self.backbone not in LITE:
            raise SettingsError(f"backbone {self.backbone!r} is none of inp_lite: choose one of {', '.join(LITE)}")
        least = min(self.prototypes, self.heads, self.blocks, self.ratio, self.steps, self.batch_images)
        if min(least, self.batch_patches, self.seen_patches) < 1:
            raise SettingsError("prototypes, heads, blocks, ratio, steps, batches and seen_patches must be at least 1")


class InpLiteNetwork(nn.Module):
    """Network of features, their reconstruction, and the scale of its errors; exported unchanged."""

    root: Tensor

    def __init__(self, features: PatchFeatures, reconstruction: Reconstruction):
        super().__init__()
        self.features = features
        self.reconstruction = reconstruction
        self.register_buffer("root", torch.eye(sum(features.channels)))

    def missed(self, patches: Tensor) -> Tensor:
        """Compute the reconstruction errors of patches (n, t, d)."""
        (made,), _ = self.reconstruction(patches)
        return patches - made

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h', w')."""
        patches = self.features(image)
        missed = self.missed(patches.flatten(1, 2)) @ self.root
        return missed.square().mean(dim=2).unflatten(1, patches.shape[1:3])


class InpLite(NetworkMethod[InpLiteConfig]):
    """Learns to reconstruct patches of a packaged backbone from a few prototypes of the same image."""

    network: InpLiteNetwork

    name = "inp_lite"
    config_class = InpLiteConfig
    presets = {"default": {}}
    purpose = "one small model for several products, without a memory bank"
    preset_purposes = {"default": "a CPU to train on: ours, INP-Former's idea on a packaged backbone; minutes"}

    def __init__(
        self, config: InpLiteConfig = InpLiteConfig(), *, weights: Path | None = None, pretrained: bool = True
    ):
        super().__init__(config)
        backbone = build_backbone(
            config.backbone, LAYERS, image_size=config.image_size, weights=weights, pretrained=pretrained
        )
        shapes = layer_shapes(backbone, config.image_size)
        self.grid = shapes[0][1:]
        channels = [shape[0] for shape in shapes]
        if sum(channels) % config.heads:
            raise SettingsError(f"heads={config.heads}: the {sum(channels)} channels of a patch are no multiple of it")
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            reconstruction = Reconstruction(
                sum(channels),
                config.heads,
                blocks=config.blocks,
                groups=1,
                prototypes=config.prototypes,
                ratio=config.ratio,
            )
            reconstruction.draw()
        self.network = InpLiteNetwork(PatchFeatures(backbone, channels, damp_length=True), reconstruction).eval()

    @property
    def head(self) -> MapHead:
        config = self.config
        return MapHead(
            window=config.window, top_patches=config.top_patches, margin=config.margin, sigma_px=config.sigma_px
        )

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Keep some patches of each good image, of one product or of several, and learn to reconstruct them."""
        config = self.config
        patches = extract_patches(
            self.network.features,
            images,
            self.grid,
            max_patches=min(config.max_patches, config.seen_patches * len(images)),
            groups=course.groups,
            rng=np.random.default_rng(config.seed),
            device=course.device,
            progress=partial(course.progress, "extract features"),
        )
        kept = torch.from_numpy(patches).unflatten(0, (len(images), -1))
        self._train(kept, course)
        self._fit_root(kept)

    def _train(self, kept: Tensor, course: Course) -> None:
        """Train the reconstruction on patches (images, t, d)."""
        config = self.config
        reconstruction = self.network.reconstruction.to(course.device).train()
        optimizer = StableAdamW(reconstruction.parameters(), config.learning_rate)

        def step(number: int, rng: np.random.Generator) -> Tensor:
            whole = kept[torch.from_numpy(rng.integers(len(kept), size=config.batch_images))].to(course.device)
            chosen = torch.from_numpy(rng.permutation(kept.shape[1])[: config.batch_patches]).to(course.device)
            return update(reconstruction, optimizer, [whole[:, chosen]], whole)

        run_steps(
            step,
            Learner(reconstruction, [optimizer]),
            config.steps,
            seed=config.seed,
            schedule=lambda number: warm_cosine(number, config.steps, round(WARM_UP * config.steps)),
            checkpoint=course.checkpoint,
            progress=course.progress,
        )
        reconstruction.to(CPU).eval()

    @torch.inference_mode()
    def _fit_root(self, kept: Tensor) -> None:
        """Fit the whitening of reconstruction errors on good images."""
        total = np.zeros((kept.shape[2], kept.shape[2]))
        for pick in np.random.default_rng(self.config.seed).permutation(len(kept))[:COVARIANCE_IMAGES].tolist():
            missed = self.network.missed(kept[pick, None])[0].double().numpy()
            total += missed.T @ missed
        self.network.root.copy_(torch.from_numpy(inverse_root(total)))
