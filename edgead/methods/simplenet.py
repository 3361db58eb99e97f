"""SimpleNet: Liu et al., "SimpleNet: A Simple Network for Image Anomaly Detection and Localization", CVPR 2023
(arXiv 2303.15140)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgead.heads.map import MapHead
from edgead.methods.backbones import build_backbone
from edgead.methods.checkpoint import Learner
from edgead.methods.device import CPU
from edgead.methods.extraction import extract_patches
from edgead.methods.loop import run_steps
from edgead.methods.method import Course, Method
from edgead.methods.network import PatchFeatures


@dataclass(frozen=True)
class SimpleNetConfig:
    """Settings of SimpleNet.

    Attributes
    ----------
    backbone, layers : str, tuple of str
        See `edgead.methods.backbones`. The paper takes layers 2 and 3 of WideResNet50.
    image_size : (int, int)
        Height and width that images are resized to.
    damp_length : bool
        Damp the length of standardised features; see `edgead.methods.network`. The paper takes plain features, and
        neither standardises nor damps: both are ours.
    hidden : int
        Width of the discriminator's hidden layer; 1024 in the authors' code, for features of 1536 channels.
    noise_std : float
        Deviation of the noise on adapted features. The paper's 0.015 is meant for plain features of WideResNet50;
        those of EfficientNet-Lite differ in scale from channel to channel by orders of magnitude, so here it is
        relative to standardised and damped ones, whose layers have a length below 1 (about 0.07 a channel).
    margin : float
        th+ and -th- of the truncated L1 loss; 0.5 is the paper's.
    steps, batch_patches : int
        Updates, and good patches in each, drawn from all images. The paper takes all patches of 4 images, for 160
        epochs; here 3,000 updates separated drawn defects less well than 1,500.
    adaptor_lr, discriminator_lr, weight_decay : float
        The paper's rates for Adam.
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
    damp_length: bool = True
    hidden: int = 256
    noise_std: float = 0.03
    margin: float = 0.5
    steps: int = 1500
    batch_patches: int = 512
    adaptor_lr: float = 1e-4
    discriminator_lr: float = 2e-4
    weight_decay: float = 1e-5
    max_patches: int = 1_000_000
    window: int = 1
    top_patches: int = 1
    sigma_px: float = 4.0
    seed: int = 0


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
        scores = -self.discriminator(self.adaptor(features.flatten(0, 2)))
        return scores.reshape(features.shape[:3])


class SimpleNet(Method[SimpleNetConfig]):
    """Learns to tell adapted features of good patches from the same features with noise."""

    network: SimpleNetwork

    name = "simplenet"
    config_class = SimpleNetConfig
    presets = {"default": {}}
    purpose = "to compare on your own parts; learns in minutes"
    preset_purposes = {"default": "all"}

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
        config = self.config
        return MapHead(window=config.window, top_patches=config.top_patches, sigma_px=config.sigma_px)

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Extract good patches, then train the adaptor and the discriminator on them."""
        patches = extract_patches(
            self.network.features,
            images,
            self.grid,
            max_patches=self.config.max_patches,
            rng=np.random.default_rng(self.config.seed),
            device=course.device,
            progress=partial(course.progress, "extract features"),
        )
        self._train(torch.from_numpy(patches), course)

    def _train(self, patches: Tensor, course: Course) -> None:
        """Adaptor and discriminator learn from standardised features of good patches, float32 (patches, d)."""
        config = self.config
        adaptor = self.network.adaptor.to(course.device).train()
        discriminator = self.network.discriminator.to(course.device).train()
        trained = nn.ModuleList([adaptor, discriminator])
        optimizers = [
            torch.optim.Adam(module.parameters(), lr=rate, weight_decay=config.weight_decay)
            for module, rate in ((adaptor, config.adaptor_lr), (discriminator, config.discriminator_lr))
        ]

        def step(number: int, rng: np.random.Generator) -> Tensor:
            drawn = torch.from_numpy(rng.integers(len(patches), size=config.batch_patches))
            good = adaptor(patches[drawn].to(course.device))
            scores = discriminator(torch.cat([good, add_noise(good, config.noise_std)]))
            loss = truncated_l1(scores[: len(good)], scores[len(good) :], config.margin)
            trained.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            return loss

        run_steps(
            step,
            Learner(trained, optimizers),
            config.steps,
            seed=config.seed,
            checkpoint=course.checkpoint,
            progress=course.progress,
        )
        self.network.to(CPU).eval()


def add_noise(features: Tensor, std: float) -> Tensor:
    """Make anomalous features from good ones: Gaussian noise on every channel (section 3.3)."""
    return features + std * torch.randn_like(features)


def truncated_l1(good: Tensor, anomalous: Tensor, margin: float) -> Tensor:
    """Mean truncated L1 loss (section 3.5) of the discriminator's outputs: nothing is gained beyond the margins.

    max(0, th+ - D(q)) + max(0, -th- + D(q-)), with th+ = `margin` and th- = -`margin`.
    """
    return (margin - good).clamp_min(0).mean() + (margin + anomalous).clamp_min(0).mean()
