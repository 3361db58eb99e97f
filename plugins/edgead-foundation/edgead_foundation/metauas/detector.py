"""MetaUAS: Gao, "MetaUAS: Universal Anomaly Segmentation with One-Prompt Meta-Learning", NeurIPS 2024.

The network and its weights are the authors', https://github.com/gaobb/MetaUAS: an image of a good part is the prompt,
and differences in another image are segmented. They trained it once, on image pairs of any content; the code of that
training is not public. They resize images bilinearly without antialiasing, by kornia; here images are resized as for
all methods. Their choice of a prompt for each image, among many good images, is not implemented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.methods.network import NetworkMethod
from edgead_foundation.metauas.files import SOURCE, load_checkpoint
from edgead_foundation.metauas.networks import STRIDE, MetaUasNetwork


@dataclass(frozen=True)
class MetaUasConfig(MethodConfig):
    """Settings of MetaUAS.

    Attributes
    ----------
    image_size : (int, int)
        Height and width that images are resized to, multiples of 32. The authors' two files were trained at 256 and at
        512.
    sigma_px : float
        Smoothing of the anomaly map; the paper's has none.
    seed : int
        Not used: nothing is drawn at random. Every method has this setting.
    """

    image_size: tuple[int, int] = (256, 256)
    sigma_px: float = 0.0

    def __post_init__(self) -> None:
        if any(side < STRIDE or side % STRIDE for side in self.image_size):
            raise SettingsError(f"image_size {self.image_size}: metauas needs multiples of {STRIDE}")


class MetaUas(NetworkMethod[MetaUasConfig]):
    """Segments differences from one golden part by the authors' trained network; it learns nothing."""

    network: MetaUasNetwork

    name = "metauas"
    config_class = MetaUasConfig
    presets = {"default": {}, "fine": {"image_size": (512, 512)}}
    purpose = "one golden part, and the authors' weights; everything is for review until `edgead calibrate`"
    preset_purposes = {"default": "with metauas-256.ckpt", "fine": "with metauas-512.ckpt, for small differences"}
    calibrated = False
    compares_places = True

    def __init__(
        self, config: MetaUasConfig = MetaUasConfig(), *, weights: Path | None = None, pretrained: bool = True
    ):
        if pretrained and weights is None:
            raise SettingsError(f"metauas comes without weights: give --weights {SOURCE}")
        super().__init__(config)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.network = MetaUasNetwork(config.image_size)
        if weights is not None:
            load_checkpoint(self.network, weights)
        self.network.eval().requires_grad_(False)

    @property
    def head(self) -> MapHead:
        return MapHead(sigma_px=self.config.sigma_px)

    @property
    def graph_arrays(self) -> dict[str, np.ndarray]:
        return self.network.learnt

    @property
    def notes(self) -> dict[str, Any]:
        return {"weights_licence": "MIT"}

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Keep the features of the golden part; there is nothing to resume."""
        if len(images) != 1:
            raise SettingsError(
                f"metauas compares with one golden part, found {len(images)} images: put the best of them into a "
                "folder of its own, or take --detector golden, which compares with up to 16"
            )
        network = self.network.to(course.device)
        network.set_prompt(torch.from_numpy(images[0])[None].to(course.device))
        network.to("cpu")
        course.progress("extract features", 1, 1)
