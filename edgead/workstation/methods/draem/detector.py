"""DRAEM: Zavrtanik, Kristan, Skocaj, "DRAEM - A discriminatively trained reconstruction embedding", ICCV 2021.

arXiv 2108.07610. Details that the paper omits follow the authors' code, https://github.com/VitjanZ/DRAEM. If the code
differs from the paper (schedule, opacity from 0.2, images rotated by up to 90 degrees, three further augmentations, a
constant threshold of the noise), this follows the paper, except for the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgead import kernels
from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.methods.draem.anomalies import SimulatedBatch, Simulator
from edgead.workstation.methods.draem.anomaly_textures import built_in_textures, folder_textures
from edgead.workstation.methods.draem.made_pairs import MadePairs
from edgead.workstation.methods.draem.networks import (
    DISCRIMINATIVE_WIDTH,
    STRIDE,
    DraemNetwork,
    focal_loss,
    initialise,
    reconstruction_loss,
)
from edgead.workstation.methods.network import NetworkMethod
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU, bfloat16_products
from edgead.workstation.trainer.loop import descend, run_steps


@dataclass(frozen=True)
class DraemConfig(MethodConfig):
    """Settings of DRAEM.

    Attributes
    ----------
    image_size : (int, int)
        Height and width that images are resized to, multiples of 32.
    width : float
        Fraction of the published base widths, 128 and 64 channels.
    anomaly_source : str, optional
        Folder of textures to make anomalies of; the paper's is the Describable Textures Dataset. By default they are
        drawn, or crops of the good images (ours).
    defects : str, optional
        Folder of made defects (`edgead defects`): half of the samples are drawn from it as in AnoGen, see
        `edgead.workstation.methods.draem.made_pairs`. They must be on the images that are learnt.
    p_cutoff : float
        For made defects that are marked only by boxes: pixels of a box count in the loss only if the network already
        gives the anomaly more than this probability; AnoGen's is 0.1. At 0 all count.
    match_grey : bool
        Convert textures on grey images to grey (ours); the paper keeps colours.
    epochs : int
        Number of epochs, 700 in the paper; an epoch draws as many images at random as the training has.
    steps : int, optional
        Number of training steps, instead of `epochs`.
    batch_size : int
    learning_rate : float
        Learning rate of Adam; multiplied by 0.1 after 4/7 and 6/7 of the steps.
    window : int
        Side in pixels of the squares over which the map is averaged; the image score is the maximum (equation 5). The
        authors' code pads with 0; windows inside the map have the same maximum, as no score is negative.
    sigma_px : float
        Smoothing of the anomaly map; the paper's has none.
    bfloat16 : bool
        Learn with products in bfloat16: faster on GPUs and on CPUs with AMX.
    seed : int
    """

    image_size: tuple[int, int] = (256, 256)
    width: float = 1.0
    anomaly_source: str | None = None
    defects: str | None = None
    p_cutoff: float = 0.0
    match_grey: bool = False
    epochs: int = 700
    steps: int | None = None
    batch_size: int = 8
    learning_rate: float = 1e-4
    window: int = 21
    sigma_px: float = 0.0
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if any(side < STRIDE or side % STRIDE for side in self.image_size):
            raise SettingsError(f"image_size {self.image_size}: draem needs multiples of {STRIDE} from {STRIDE} on")
        if round(self.width * DISCRIMINATIVE_WIDTH) < 1:
            raise SettingsError(f"width {self.width}: at least {1 / DISCRIMINATIVE_WIDTH:g} is needed for one channel")
        if not 0 <= self.p_cutoff < 1:
            raise SettingsError(f"p_cutoff {self.p_cutoff}: a probability from 0 to below 1 is needed")
        if min(self.epochs, self.batch_size, 1 if self.steps is None else self.steps) < 1:
            raise SettingsError("epochs, steps and batch_size must be at least 1")


class Draem(NetworkMethod[DraemConfig]):
    """Detector that learns, from simulated anomalies, to repair images and to find what the repair has changed."""

    network: DraemNetwork

    name = "draem"
    config_class = DraemConfig
    presets = {
        "default": {},
        # For demonstration, ours: a 64th of the products, and 45 times fewer pixels to learn from than in 700 epochs of
        # 400 images. About 0.75 s of CPU time a step on a Zen 4 server, so that two cores train it in half an hour.
        "cpu": {
            "image_size": (160, 160),
            "width": 0.125,
            "match_grey": True,
            "steps": 4000,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "window": 13,
        },
    }
    purpose = "a GPU to train on, where no pretrained backbone may be used"
    preset_purposes = {
        "default": "as published",
        "cpu": "a demonstration that two cores train in half an hour: too narrow and too short to inspect parts with",
    }

    def __init__(self, config: DraemConfig = DraemConfig(), *, weights: Path | None = None, pretrained: bool = True):
        if weights is not None:
            raise SettingsError("draem has no backbone: leave --weights out")
        super().__init__(config)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.network = DraemNetwork(config.width)
            initialise(self.network)
        self.network.eval()

    @property
    def head(self) -> MapHead:
        return MapHead(window=self.config.window, sigma_px=self.config.sigma_px)

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Learn from simulated anomalies on good images."""
        config = self.config
        source = config.anomaly_source
        texture = built_in_textures(images) if source is None else folder_textures(Path(source))
        made = None if config.defects is None else MadePairs(Path(config.defects), images, self.preprocessing)
        simulator = Simulator(images, texture, match_grey=config.match_grey, made=made)
        network = self.network.train()
        network.to(course.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        steps = config.steps or config.epochs * math.ceil(len(images) / config.batch_size)

        def step(number: int, rng: np.random.Generator) -> Tensor:
            return descend(self.loss(simulator.batch(config.batch_size, rng, executor), course.device), optimizer)

        with ThreadPoolExecutor(kernels.threads(), "edgead-simulator") as executor:
            run_steps(
                step,
                Learner(network, [optimizer]),
                steps,
                seed=config.seed,
                schedule=partial(rate_factor, steps),
                checkpoint=course.checkpoint,
                progress=course.progress,
            )
        network.to(CPU, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        network.eval()

    def loss(self, batch: SimulatedBatch, device: torch.device = CPU) -> Tensor:
        """Compute the loss of a batch, L = L_rec + L_seg (equation 3), a scalar."""
        image, corrupted = (torch.from_numpy(x).to(device).permute(0, 3, 1, 2) for x in (batch.image, batch.corrupted))
        with bfloat16_products(device, self.config.bfloat16):
            reconstruction, logits = self.network.reconstruct_and_segment(corrupted)
        mask = torch.from_numpy(batch.mask).to(device)
        return reconstruction_loss(image, reconstruction.float()) + focal_loss(
            logits.float(), mask, self.config.p_cutoff
        )


def rate_factor(steps: int, number: int) -> float:
    """Factor of the learning rate: a tenth after 400 of 700 epochs, a hundredth after 600 (section 4.1).

    The authors' code multiplies by 0.2 after 0.8 and 0.9 of the epochs.
    """
    return 0.1 ** sum(7 * number >= sevenths * steps for sevenths in (4, 6))
