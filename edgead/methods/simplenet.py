"""SimpleNet: Liu et al., "SimpleNet: A Simple Network for Image Anomaly Detection and Localization", CVPR 2023
(arXiv 2303.15140)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.methods.backbones import build_backbone
from edgead.methods.checkpoint import Learner
from edgead.methods.device import CPU
from edgead.methods.extraction import extract_patches
from edgead.methods.loop import run_steps
from edgead.methods.method import Course, Method
from edgead.methods.network import PatchFeatures
from edgead.methods.simplenet_training import Batches, Contest
from edgead.methods.unfolded import UnfoldedFeatures


@dataclass(frozen=True)
class SimpleNetConfig:
    """Settings of SimpleNet.

    Attributes
    ----------
    backbone, layers : str, tuple of str
        See `edgead.methods.backbones`. The paper takes layers 2 and 3 of WideResNet50.
    image_size : (int, int)
        Height and width that images are resized to.
    features : {"averaged", "unfolded"}
        The mean of each 3 x 3 neighbourhood, standardised, see `edgead.methods.network`, which is ours; or all of it,
        as the authors have it, see `edgead.methods.unfolded`.
    embedding : int
        Numbers of an unfolded patch; 1536 in the authors' script.
    damp_length : bool
        Damp the length of averaged features; see `edgead.methods.network`.
    hidden : int
        Width of the discriminator's hidden layer; 1024 in the authors' script.
    noise_std : float
        Deviation of the noise on adapted features. The paper's 0.015 is meant for plain features of WideResNet50;
        those of EfficientNet-Lite differ in scale from channel to channel by orders of magnitude, so here it is
        relative to standardised and damped ones, whose layers have a length below 1 (about 0.07 a channel).
    margin : float
        th+ and -th- of the truncated L1 loss; 0.5 is the paper's.
    steps, batch_patches : int
        Updates, and good patches in each, drawn from all images.
    epochs : int
        Passes over all patches instead of `steps`; 0 counts steps. The authors' code makes 160.
    batch_images : int
        All patches of so many images are a batch, instead of `batch_patches`; 8 in the authors' script, 0 is without.
    adaptor_lr, discriminator_lr, weight_decay : float
        Rates of AdamW for the adaptor and of Adam for the discriminator, whose decay it is.
    max_patches : int
        More patches than this are thinned at random before training, which bounds the memory.
    window, top_patches : int
        The image score: patch scores are averaged over windows of this many patches a side, and this many of the
        largest averages are averaged. 1 and 1 give the paper's maximum.
    sigma_px : float
        Smoothing of the anomaly map; 4 is the paper's.
    seed : int
    """

    backbone: str = "efficientnet_lite2"
    layers: tuple[str, ...] = ("stride8", "stride16")
    image_size: tuple[int, int] = (320, 320)
    features: Literal["averaged", "unfolded"] = "averaged"
    embedding: int = 1536
    damp_length: bool = True
    hidden: int = 256
    noise_std: float = 0.03
    margin: float = 0.5
    steps: int = 1500
    batch_patches: int = 512
    epochs: int = 0
    batch_images: int = 0
    adaptor_lr: float = 1e-4
    discriminator_lr: float = 2e-4
    weight_decay: float = 1e-5
    max_patches: int = 1_000_000
    window: int = 1
    top_patches: int = 1
    sigma_px: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.embedding, self.hidden, self.epochs + self.steps, self.batch_patches) < 1:
            raise SettingsError("embedding, hidden, steps and batch_patches must be at least 1")


# The authors' run.sh. They resize to 329 px and cut 288 px out of the middle; here the whole image is looked at, on the
# scale of the resized one, for a defect at the border counts as well.
PAPER = {
    "backbone": "wide_resnet50_2",
    "layers": ("layer2", "layer3"),
    "image_size": (329, 329),
    "features": "unfolded",
    "hidden": 1024,
    "noise_std": 0.015,
    "epochs": 160,
    "batch_images": 8,
}


class SimpleNetwork(nn.Module):
    """Feature extractor, feature adaptor and discriminator (sections 3.1, 3.2 and 3.4), exported as it stands."""

    def __init__(self, features: PatchFeatures, hidden: int):
        super().__init__()
        channels = features.mean.numel()
        self.features = features
        self.adaptor = nn.Linear(channels, channels)
        self.discriminator = nn.Sequential(
            nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1, bias=False)
        )

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> patch scores, the negated discriminator (section 3.6), float32 (n, h', w')."""
        features = self.features(image)
        return self.score(features.flatten(0, 2)).reshape(features.shape[:3])

    def score(self, features: Tensor) -> Tensor:
        """Patch features, float32 (n, d) -> scores, float32 (n, 1)."""
        return -self.discriminator(self.adaptor(features))


class SimpleNet(Method[SimpleNetConfig]):
    """Learns to tell adapted features of good patches from the same features with noise."""

    network: SimpleNetwork

    name = "simplenet"
    config_class = SimpleNetConfig
    presets = {"default": {}, "paper": PAPER}
    purpose = "to compare on your own parts; learns in minutes"
    preset_purposes = {"default": "all", "paper": "the authors' network and schedule, on a GPU"}

    def __init__(
        self,
        config: SimpleNetConfig = SimpleNetConfig(),
        *,
        weights: Path | None = None,
        pretrained: bool = True,
    ):
        super().__init__(config)
        backbone = build_backbone(
            config.backbone, config.layers, image_size=config.image_size, weights=weights, pretrained=pretrained
        )
        with torch.inference_mode():
            layers = backbone(torch.zeros(1, 3, *config.image_size))
        self.grid = tuple(layers[0].shape[-2:])
        if config.features == "unfolded":
            features: PatchFeatures = UnfoldedFeatures(backbone, config.embedding)
        else:
            features = PatchFeatures(backbone, [layer.shape[1] for layer in layers], damp_length=config.damp_length)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.network = SimpleNetwork(features, config.hidden)
            for layer in self.network.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_normal_(layer.weight)  # as in the authors' code; the paper does not say
        self.network.eval()

    @property
    def head(self) -> MapHead:
        return head_of(self.config)

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Extract good patches, then train the adaptor and the discriminator on them."""
        patches = extract_patches(
            self.network.features,
            images,
            self.grid,
            max_patches=self.config.max_patches,
            groups=course.groups,
            rng=np.random.default_rng(self.config.seed),
            device=course.device,
            progress=partial(course.progress, "extract features"),
        )
        self._train(torch.from_numpy(patches), len(patches) // len(images), course)

    def _train(self, patches: Tensor, per_image: int, course: Course) -> None:
        """Adaptor and discriminator learn from features of good patches, float32 (patches, d), image by image."""
        config = self.config
        adaptor = self.network.adaptor.to(course.device).train()
        discriminator = self.network.discriminator.to(course.device).train()
        contest = Contest(adaptor, discriminator, config.noise_std, config.margin)
        optimizers = contest.optimizers(config.adaptor_lr, config.discriminator_lr, config.weight_decay)
        whole = config.batch_images
        size, together = (whole * per_image, per_image) if whole else (config.batch_patches, 1)
        batches = Batches(len(patches), size, together, config.seed)

        def step(number: int, rng: np.random.Generator) -> Tensor:
            return contest.update(patches[batches.of(number)].to(course.device), optimizers)

        run_steps(
            step,
            Learner(nn.ModuleList([adaptor, discriminator]), optimizers),
            config.epochs * batches.per_epoch or config.steps,
            seed=config.seed,
            checkpoint=course.checkpoint,
            progress=course.progress,
        )
        self.network.to(CPU).eval()


def head_of(config: SimpleNetConfig) -> MapHead:
    """How patch scores become an image score and a map."""
    return MapHead(window=config.window, top_patches=config.top_patches, sigma_px=config.sigma_px)
