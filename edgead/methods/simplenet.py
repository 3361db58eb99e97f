"""SimpleNet: Liu et al., "SimpleNet: A Simple Network for Image Anomaly Detection and Localization", CVPR 2023
(arXiv 2303.15140)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from edgead.artifact.manifest import LearnsFrom, Preprocessing
from edgead.dataset.folders import StageProgress, no_progress
from edgead.heads.map import MapHead
from edgead.methods.backbones import build_backbone
from edgead.methods.checkpoint import Checkpoint, Learner
from edgead.methods.device import CPU
from edgead.methods.extraction import extract_patches
from edgead.methods.loop import run_steps
from edgead.methods.network import PatchFeatures
from edgead.methods.settings import plain_settings, read_settings


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


class SimpleNet:
    """Learns to tell adapted features of good patches from the same features with noise.

    Attributes
    ----------
    presets : dict
        What differs from the defaults of SimpleNetConfig.
    network : SimpleNetwork
        The module that is exported; the noise is no part of it.
    """

    name = "simplenet"
    learns_from: LearnsFrom = "good"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}
    arrays: ClassVar[dict[str, np.ndarray]] = {}  # the graph has everything

    def __init__(
        self,
        config: SimpleNetConfig = SimpleNetConfig(),
        *,
        weights: Path | None = None,
        pretrained: bool = True,
    ):
        self.config = config
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
                    nn.init.xavier_normal_(layer.weight)  # as in the authors' code; the paper does not tell
        self.network.eval()

    @classmethod
    def from_settings(
        cls, settings: dict[str, Any], *, weights: Path | None = None, pretrained: bool = True
    ) -> SimpleNet:
        """Build an untrained detector from settings such as `settings()` gives; missing ones keep their defaults."""
        config = read_settings(SimpleNetConfig, settings, detector=cls.name)
        return cls(config, weights=weights, pretrained=pretrained)

    def settings(self) -> dict[str, Any]:
        """The configuration as plain JSON types."""
        return plain_settings(self.config)

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(image_size=self.config.image_size)

    @property
    def head(self) -> MapHead:
        config = self.config
        return MapHead(window=config.window, top_patches=config.top_patches, sigma_px=config.sigma_px)

    def fit(
        self,
        images: Sequence[np.ndarray],
        *,
        groups: Sequence[int] = (),
        progress: StageProgress = no_progress,
        checkpoint: Checkpoint | None = None,
        device: torch.device = CPU,
    ) -> SimpleNet:
        """Learn from good images.

        Parameters
        ----------
        images : sequence of ndarray of shape (h, w, 3), uint8, RGB
            Already preprocessed to `config.image_size`.
        groups : sequence of int, optional
            Not used: nothing of it is held out here.
        progress : callable, optional
            Called with (stage, done, total).
        checkpoint : Checkpoint, optional
            Where an interrupted training goes on.
        device : torch.device
            Where to train.
        """
        patches = extract_patches(
            self.network.features,
            images,
            self.grid,
            max_patches=self.config.max_patches,
            rng=np.random.default_rng(self.config.seed),
            device=device,
            progress=partial(progress, "extract features"),
        )
        self._train(torch.from_numpy(patches), device, checkpoint, progress)
        return self

    def _train(
        self, patches: Tensor, device: torch.device, checkpoint: Checkpoint | None, progress: StageProgress
    ) -> None:
        """Adaptor and discriminator learn from standardised features of good patches, float32 (patches, d)."""
        config = self.config
        adaptor = self.network.adaptor.to(device).train()
        discriminator = self.network.discriminator.to(device).train()
        trained = nn.ModuleList([adaptor, discriminator])
        optimizers = [
            torch.optim.Adam(module.parameters(), lr=rate, weight_decay=config.weight_decay)
            for module, rate in ((adaptor, config.adaptor_lr), (discriminator, config.discriminator_lr))
        ]

        def step(number: int, rng: np.random.Generator) -> Tensor:
            drawn = torch.from_numpy(rng.integers(len(patches), size=config.batch_patches))
            good = adaptor(patches[drawn].to(device))
            scores = discriminator(torch.cat([good, add_noise(good, config.noise_std)]))
            loss = truncated_l1(scores[: len(good)], scores[len(good) :], config.margin)
            trained.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            return loss

        run_steps(
            step, Learner(trained, optimizers), config.steps, seed=config.seed, checkpoint=checkpoint, progress=progress
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
