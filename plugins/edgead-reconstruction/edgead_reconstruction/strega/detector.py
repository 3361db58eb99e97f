"""StRegA: Chatterjee et al., "StRegA: Unsupervised Anomaly Detection in Brain MRIs using a Compact Context-encoding
Variational Autoencoder", Computers in Biology and Medicine 2022 (arXiv 2201.13271).

Networks, losses, noise and opening by area are taken from the authors' code, https://github.com/soumickmj/StRegA. The
classes of tissue are edgead's, and so are the numbers that the code does not set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead.workstation.methods.network import NetworkMethod
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU
from edgead.workstation.trainer.loop import descend, run_steps
from edgead_reconstruction.strega.head import AreaOpenedHead
from edgead_reconstruction.strega.losses import Geco, noise_squares, put_on, total_loss
from edgead_reconstruction.strega.network import Sign, SliceNetwork, Vae, parameter_count

MAX_PARAMETERS = 500_000_000
"""Largest number of float32 parameters: an ONNX file holds at most 2 GiB, including its description."""


@dataclass(frozen=True)
class StregaConfig(MethodConfig):
    """Settings of StRegA.

    Attributes
    ----------
    image_size : (int, int)
        Height and width that slices are resized to, multiples of 2 ** len(widths) and at least twice that.
    widths : tuple of int
        Channels after each halving.
    latent : int
        Length of a slice's code.
    segment : bool
        Reconstruct classes of tissue instead of intensities; 0 is the background in both.
    sign : {"darker", "brighter", "both"}
        Pixels that count: those darker than their reconstruction, as in the authors' code, brighter, or either.
    context_share : float
        Share of the loss on slices with squares of noise; the autoencoder's own loss has the remaining share.
    beta : float
        Weight of the Kullback-Leibler divergence.
    steps : int
    batch_images : int
    learning_rate : float
        Learning rate of Adam.
    cut : float
        Threshold of the residual: values above it count, all with equal weight.
    levels : int
        Number of heights around `cut` at which the residual is opened by area; 1 opens at `cut`, as the authors do.
    area : int
        Least size of a connected region, in pixels of `image_size`; smaller regions do not count.
    sigma_px : float
        Smoothing of the opened map.
    seed : int
    """

    image_size: tuple[int, int] = (128, 128)
    widths: tuple[int, ...] = (16, 32, 64, 128)
    latent: int = 128
    segment: bool = False
    sign: Sign = "both"
    context_share: float = 0.5
    beta: float = 0.01
    steps: int = 1500
    batch_images: int = 16
    learning_rate: float = 1e-3
    cut: float = 0.2
    levels: int = 5
    area: int = 64
    sigma_px: float = 1.0

    def __post_init__(self) -> None:
        if min(*self.widths, self.latent, self.steps, self.batch_images, len(self.widths)) < 1:
            raise SettingsError("widths, latent, steps and batch_images must be at least 1, and widths not empty")
        step = 2 ** len(self.widths)
        if any(side < 2 * step or side % step for side in self.image_size):
            raise SettingsError(
                f"image_size {list(self.image_size)}: {len(self.widths)} widths need multiples of {step}, at least "
                f"{2 * step}"
            )
        if not 0 <= self.context_share <= 1:
            raise SettingsError(f"context_share {self.context_share}: a share from 0 to 1 is needed")
        numbers = parameter_count(self.image_size, self.widths, self.latent)
        if numbers > MAX_PARAMETERS:
            raise SettingsError(
                f"a network of {numbers / 1e6:.0f} million numbers does not fit into an ONNX file: lower image_size "
                "(128,128 has a quarter of what 256,256 has), latent or the last of widths"
            )


class Strega(NetworkMethod[StregaConfig]):
    """StRegA: learns to reconstruct good slices from one code each; regions reconstructed badly are anomalous."""

    network: SliceNetwork

    name = "strega"
    config_class = StregaConfig
    inputs = ("rgb", "grey16")
    presets = {
        "default": {},
        "paper": {
            "widths": (16, 64, 256, 1024),
            "latent": 1024,
            "segment": True,
            "sign": "darker",
            "learning_rate": 1e-4,
            "steps": 20_000,
            "levels": 1,
        },
    }
    purpose = "slices of volumes and other smooth images that lie still; no medical device"
    preset_purposes = {
        "default": "ours: a CPU to train on; minutes",
        "paper": "a GPU to train on: the authors' network and losses, at 128 px where they have 256",
    }

    def __init__(self, config: StregaConfig = StregaConfig(), *, weights: Path | None = None, pretrained: bool = True):
        if weights is not None:
            raise SettingsError("strega has no backbone: leave --weights out")
        super().__init__(config)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            vae = Vae(config.image_size, config.widths, config.latent)
        self.network = SliceNetwork(vae, segment=config.segment, sign=config.sign).eval()

    @property
    def head(self) -> AreaOpenedHead:
        config = self.config
        # The window is the whole map: the image score is its mean.
        return AreaOpenedHead(
            window=max(config.image_size),
            sigma_px=config.sigma_px,
            cut=config.cut,
            levels=config.levels,
            area=config.area,
        )

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Train the autoencoder to reconstruct good slices, with and without squares of noise on them."""
        config = self.config
        network, geco = self.network.train().to(course.device), Geco().to(course.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)

        def step(number: int, rng: np.random.Generator) -> Tensor:
            picked = rng.integers(len(images), size=config.batch_images).tolist()
            with torch.no_grad():
                slices = network.prepare(torch.from_numpy(np.stack([images[i] for i in picked])).to(course.device))
                squares = noise_squares(
                    (len(picked), *config.image_size), float(slices.min()), float(slices.max()), rng
                )
                squared = put_on(slices, torch.from_numpy(squares).to(slices))
            shape = (len(picked), config.latent, 1, 1)
            noises = (torch.randn(shape, device=course.device), torch.randn(shape, device=course.device))
            loss, error = total_loss(
                network.vae, slices, squared, noises, theta=geco.theta, beta=config.beta, share=config.context_share
            )
            descend(loss, optimizer)
            geco.update(error.detach())
            return loss

        run_steps(
            step,
            Learner(nn.ModuleDict({"network": network, "geco": geco}), [optimizer]),
            config.steps,
            seed=config.seed,
            checkpoint=course.checkpoint,
            progress=course.progress,
        )
        network.to(CPU).eval()
