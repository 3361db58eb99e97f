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

from edgead.adapt.frozen_backbone import check_backbone
from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.backbones.extraction import extract_patches
from edgead.workstation.backbones.patch_features import PatchFeatures
from edgead.workstation.backbones.pretrained import build_backbone, layer_shapes
from edgead.workstation.methods.network import NetworkMethod
from edgead.workstation.methods.simplenet.training import (
    Batches,
    BestSoFar,
    Contest,
    DrawnDefects,
    SimpleNetwork,
    UnfoldedFeatures,
    hold_out,
    running_mean,
)
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU
from edgead.workstation.trainer.loop import run_steps
from edgead.workstation.trainer.prefetch import Subset


@dataclass(frozen=True)
class SimpleNetConfig(MethodConfig):
    """Settings of SimpleNet.

    Attributes
    ----------
    backbone, layers : str, tuple of str
        See `edgead.workstation.backbones.pretrained`. The paper uses layers 2 and 3 of WideResNet50.
    image_size : (int, int)
        Height and width that images are resized to.
    fill : {"stretch", "reflect"}
        Treatment of images with other proportions: stretched, or padded with their reflection.
    features : {"averaged", "unfolded"}
        Mean of each 3 x 3 neighbourhood, standardised (ours, see `edgead.workstation.backbones.patch_features`); or the
        whole neighbourhood, as in the authors' code, see `edgead.workstation.methods.simplenet.training`.
    embedding : int
        Length of an unfolded patch's vector; 1536 in the authors' script.
    damp_length : bool
        Damp the length of averaged features; see `edgead.workstation.backbones.patch_features`.
    whiten : bool
        Transform averaged features by the metric learnt from good parts, see
        `edgead.adapt.memory_bank.feature_space.FeatureMetric`: the noise is then as strong as the variation of
        good parts in every direction.
    hidden : int
        Width of the discriminator's hidden layer; 1024 in the authors' script.
    noise_std, noise_spread : float
        Deviation of the noise on adapted features, and the factor by which it may be weaker, see
        `methods.simplenet.training`. The paper's 0.015 is for plain features of WideResNet50; channels of
        EfficientNet-Lite differ in scale by orders of magnitude, so here it refers to standardised, damped and
        whitened ones (about 0.07 a channel; the nearest patch of another part differs by 0.06).
    averaging : float
        Decay, at each step, of the running mean that gives the weights, which is ours; 0 takes the last weights.
    held_out : float
        Share of the groups of images that is held out for early stopping: defects are drawn on them, and the network
        that separates these best is kept. The authors' code uses the test set. 0 trains to the end.
    look_every, patience : int
        Steps between two such checks, and number of checks without improvement before the training stops.
    margin : float
        th+ and -th- of the truncated L1 loss; 0.5 is the paper's.
    steps, batch_patches : int
        Number of updates, and of good patches in each, drawn from all images. On six sets of real parts 300 and 600
        updates are equally good on average; more harm parts that differ much, which drawn defects do not show.
    epochs : int
        Number of passes over all patches instead of `steps`; 0 uses `steps`. The authors' code makes 160.
    batch_images : int
        Number of images whose patches form a batch, instead of `batch_patches`; 8 in the authors' script, 0 for none.
    adaptor_lr, discriminator_lr, weight_decay : float
        Learning rates of AdamW for the adaptor and of Adam for the discriminator, and the weight decay of the latter.
    max_patches : int
        Bound of the memory: more patches are thinned at random before training.
    window, top_patches : int
        For the image score patch scores are averaged over windows of `window` patches on each side, and the
        `top_patches` largest averages are averaged. 1 and 1 give the paper's maximum.
    rings : int
        Number of outermost rings of patches, which see the network's padding, that the image score leaves out.
    sigma_px : float
        Smoothing of the anomaly map; 4 is the paper's.
    seed : int
    """

    backbone: str = "efficientnet_lite2"
    layers: tuple[str, ...] = ("stride8", "stride16")
    image_size: tuple[int, int] = (320, 320)
    fill: Literal["stretch", "reflect"] = "stretch"
    features: Literal["averaged", "unfolded"] = "averaged"
    embedding: int = 1536
    damp_length: bool = True
    whiten: bool = True
    hidden: int = 1024
    noise_std: float = 0.1
    noise_spread: float = 20.0
    margin: float = 0.5
    averaging: float = 0.99
    held_out: float = 0.1
    look_every: int = 100
    patience: int = 3
    steps: int = 300
    batch_patches: int = 512
    epochs: int = 0
    batch_images: int = 0
    adaptor_lr: float = 1.5e-4
    discriminator_lr: float = 3e-4
    weight_decay: float = 1e-5
    max_patches: int = 1_000_000
    window: int = 3
    top_patches: int = 10
    rings: int = 1
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        if min(self.embedding, self.hidden, self.epochs + self.steps, self.batch_patches) < 1:
            raise SettingsError("embedding, hidden, steps and batch_patches must be at least 1")
        check_backbone(self.backbone, self.layers)


# The authors' run.sh. They resize to 329 px and crop 288 px from the middle; here the whole image is used, at the scale
# of the resized one, as a defect at the border counts too.
PAPER = {
    "backbone": "wide_resnet50_2",
    "layers": ("layer2", "layer3"),
    "image_size": (329, 329),
    "features": "unfolded",
    "whiten": False,
    "hidden": 1024,
    "noise_std": 0.015,
    "noise_spread": 1.0,
    "averaging": 0.0,
    "patience": 40,
    "epochs": 160,
    "batch_images": 8,
    "adaptor_lr": 1e-4,
    "discriminator_lr": 2e-4,
    "window": 1,
    "top_patches": 1,
    "rings": 0,
}


class SimpleNet(NetworkMethod[SimpleNetConfig]):
    """Detector that learns to tell adapted features of good patches from the same features with noise."""

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
        shapes = layer_shapes(backbone, config.image_size)
        self.grid = shapes[0][1:]
        if config.features == "unfolded":
            features: PatchFeatures = UnfoldedFeatures(backbone, config.embedding)
        else:
            channels = [shape[0] for shape in shapes]
            features = PatchFeatures(backbone, channels, damp_length=config.damp_length, whiten=config.whiten)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.network = SimpleNetwork(features, config.hidden)
            for layer in self.network.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_normal_(layer.weight)  # as in the authors' code; the paper does not state it
        self.network.eval()

    @property
    def head(self) -> MapHead:
        config = self.config
        return MapHead(
            window=config.window, top_patches=config.top_patches, margin=config.rings, sigma_px=config.sigma_px
        )

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Extract good patches, then train the adaptor and the discriminator on them."""
        config = self.config
        groups = np.asarray(course.groups or range(len(images)))
        own, held = hold_out(groups, config.held_out, config.seed)
        patches = extract_patches(
            self.network.features,
            Subset(images, own),
            self.grid,
            max_patches=config.max_patches,
            groups=groups[own].tolist(),
            rng=np.random.default_rng(config.seed),
            device=course.device,
            progress=partial(course.progress, "extract features"),
        )
        drawn = DrawnDefects(self.network.features, Subset(images, held), self.head, config.seed) if len(held) else None
        self._train(torch.from_numpy(patches), len(patches) // len(own), drawn, course)

    def _train(self, patches: Tensor, per_image: int, drawn: DrawnDefects | None, course: Course) -> None:
        """Train adaptor and discriminator on features of good patches, float32 (patches, d), image by image."""
        config = self.config
        trained = nn.Sequential(self.network.adaptor, self.network.discriminator).to(course.device)
        averaged = running_mean(trained, config.averaging)
        best = BestSoFar(averaged.module, config.patience)
        contest = Contest(trained[0], trained[1], config.noise_std, config.noise_spread, config.margin)
        optimizers = contest.optimizers(config.adaptor_lr, config.discriminator_lr, config.weight_decay)
        whole = config.batch_images
        size, together = (whole * per_image, per_image) if whole else (config.batch_patches, 1)
        batches = Batches(len(patches), size, together, config.seed)
        steps = config.epochs * batches.per_epoch or config.steps

        def step(number: int, rng: np.random.Generator) -> Tensor:
            if best.is_over:
                return torch.zeros(())
            loss = contest.update(patches[batches.of(number)].to(course.device), optimizers)
            averaged.update_parameters(trained)
            if drawn and (number + 1) % config.look_every == 0:
                best.offer(averaged.module, drawn.auroc(averaged.module))
            return loss

        run_steps(
            step,
            Learner(nn.ModuleList([trained, averaged, best]), optimizers),
            steps,
            seed=config.seed,
            checkpoint=course.checkpoint,
            progress=course.progress,
        )
        chosen = best.kept if drawn and best.auroc > 0 else averaged.module
        trained.load_state_dict(chosen.state_dict())
        self.network.to(CPU).eval()
