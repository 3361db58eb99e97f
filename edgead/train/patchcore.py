"""PatchCore: Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022 (arXiv 2106.08265)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from edgead import kernels
from edgead.artifact import Preprocessing, Scoring
from edgead.dataset import StageProgress, no_progress
from edgead.train.backbones import build_backbone
from edgead.train.checkpoint import Checkpoint
from edgead.train.device import CPU
from edgead.train.extraction import extract_patches
from edgead.train.network import PatchFeatures
from edgead.train.settings import plain_settings, read_settings


@dataclass(frozen=True)
class PatchCoreConfig:
    """Settings of PatchCore.

    Attributes
    ----------
    backbone, layers : str, tuple of str
        See `edgead.train.backbones`.
    image_size : (int, int)
        Height and width that images are resized to.
    damp_length : bool
        Damp the length of standardised features; see `edgead.train.network`. The paper compares plain features.
    coreset_sampling_ratio : float
        At most this share of all patches goes into the memory bank ...
    memory_bank_size : int
        ... and at most this many rows: it bounds the search time on the device.
    max_patches : int
        More patches than this are thinned at random before the coreset is chosen, which bounds the memory.
    num_neighbors : int
        Neighbours whose distances are averaged to a patch score.
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
    coreset_sampling_ratio: float = 1.0
    memory_bank_size: int = 10_000
    max_patches: int = 1_500_000
    num_neighbors: int = 1
    window: int = 5
    top_patches: int = 1
    sigma_px: float = 4.0
    seed: int = 0


class PatchCore:
    """Learns what good patches look like: a frozen backbone and a memory bank chosen by greedy k-centre.

    Attributes
    ----------
    presets : dict
        What differs from the defaults of PatchCoreConfig.
    network : PatchFeatures
        The module that is exported.
    memory_bank : ndarray of shape (m, d), float32, or None before `fit`
    """

    name = "patchcore"
    output: Literal["features"] = "features"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast": {"backbone": "efficientnet_lite0", "image_size": (224, 224)},
        "default": {},
        "fine": {"image_size": (448, 448), "window": 3, "top_patches": 10},
    }

    def __init__(
        self,
        config: PatchCoreConfig = PatchCoreConfig(),
        *,
        weights: Path | None = None,
        pretrained: bool = True,
    ):
        self.config = config
        backbone = build_backbone(
            config.backbone,
            config.layers,
            image_size=config.image_size,
            weights=weights,
            pretrained=pretrained,
        )
        with torch.inference_mode():
            layers = backbone(torch.zeros(1, 3, *config.image_size))
        self.grid = tuple(layers[0].shape[-2:])
        channels = [layer.shape[1] for layer in layers]
        self.network = PatchFeatures(backbone, channels, damp_length=config.damp_length).eval()
        self.memory_bank: np.ndarray | None = None

    @classmethod
    def from_settings(
        cls, settings: dict[str, Any], *, weights: Path | None = None, pretrained: bool = True
    ) -> PatchCore:
        """Build an untrained detector from settings such as `settings()` gives; missing ones keep their defaults."""
        config = read_settings(PatchCoreConfig, settings, detector=cls.name)
        return cls(config, weights=weights, pretrained=pretrained)

    def settings(self) -> dict[str, Any]:
        """The configuration as plain JSON types."""
        return plain_settings(self.config)

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(image_size=self.config.image_size)

    @property
    def scoring(self) -> Scoring:
        config = self.config
        return Scoring(
            head="patch_nearest",
            num_neighbors=config.num_neighbors,
            window=config.window,
            top_patches=config.top_patches,
            sigma_px=config.sigma_px,
        )

    def fit(
        self,
        images: Sequence[np.ndarray],
        *,
        progress: StageProgress = no_progress,
        checkpoint: Checkpoint | None = None,
        device: torch.device = CPU,
    ) -> PatchCore:
        """Learn from good images.

        Parameters
        ----------
        images : sequence of ndarray of shape (h, w, 3), uint8, RGB
            Already preprocessed to `config.image_size`.
        progress : callable, optional
            Called with (stage, done, total).
        checkpoint : Checkpoint, optional
            Not used: there is nothing to resume in a method without training steps.
        device : torch.device
            Where the backbone runs.
        """
        patches = extract_patches(
            self.network,
            images,
            self.grid,
            max_patches=self.config.max_patches,
            rng=np.random.default_rng(self.config.seed),
            device=device,
            progress=partial(progress, "extract features"),
        )
        wanted = int(np.ceil(self.config.coreset_sampling_ratio * len(patches)))
        count = max(self.config.num_neighbors, min(wanted, self.config.memory_bank_size, len(patches)))
        # The first centre is drawn at random, the others are the farthest patches (algorithm 1).
        first = int(np.random.default_rng(self.config.seed).integers(len(patches)))
        chosen = kernels.greedy_coreset(patches, count, first=first, progress=partial(progress, "choose memory bank"))
        self.memory_bank = patches[chosen]
        return self
