"""CS-Flow: Rudolph et al., "Fully Convolutional Cross-Scale-Flows for Image-based Defect Detection", WACV 2022
(arXiv 2110.02855)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.backbones.pretrained import Backbone, build_backbone, layer_shapes
from edgead.workstation.backbones.pyramid import each_batch, on_finest_grid
from edgead.workstation.methods.cs_flow.flow import CrossScaleFlow, FlowShape, Whitening, negative_log_likelihood
from edgead.workstation.methods.method import Course, Method, MethodConfig
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU, bfloat16_products
from edgead.workstation.trainer.loop import run_steps


@dataclass(frozen=True)
class CsFlowConfig(MethodConfig):
    """Settings of CS-Flow.

    Attributes
    ----------
    backbone, layer : str
        See `edgead.workstation.backbones.pretrained`. The paper has layer 36 of EfficientNet-B5, of stride 32.
    image_size : (int, int)
        Height and width of the finest scale, multiples of 64 for three scales and stride 16; 768 in the paper.
    scales : int
        Images that the backbone sees, each half the size of the one before.
    hidden : int
        Channels inside the coupling blocks; 1024 in the authors' code, for features of 304 channels.
    kernels : tuple of int
        Side of the convolutions in each coupling block.
    clamp : float
        Bound on the logarithm of a scale; the paper's alpha, 3.
    enlarge_first : bool
        Enlarge a coarser scale before its convolution inside the coupling blocks, as the authors' code does. After it
        is ours: a quarter of the products, and what earlier models did.
    steps, batch_size : int
        The paper's batches; it takes 240 epochs of them.
    learning_rate, weight_decay : float
        Of Adam. The paper learns at 2e-4, and for longer.
    bfloat16 : bool
        Learn with products in bfloat16: faster on GPUs and on CPUs that have them.
    sigma_px : float
        Smoothing of the anomaly map.
    seed : int
    """

    backbone: str = "efficientnet_lite2"
    layer: str = "stride16"
    image_size: tuple[int, int] = (320, 320)
    scales: int = 3
    hidden: int = 96
    kernels: tuple[int, ...] = (3, 3, 3, 5)
    clamp: float = 3.0
    enlarge_first: bool = True
    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    bfloat16: bool = False
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        if min(self.scales, self.hidden, self.steps, self.batch_size, len(self.kernels)) < 1:
            raise SettingsError("scales, hidden, steps and batch_size must be at least 1, and there must be kernels")
        if any(kernel < 1 or kernel % 2 == 0 for kernel in self.kernels):
            raise SettingsError(f"kernels are odd, found {list(self.kernels)}")


class CsFlowNetwork(nn.Module):
    """Backbone at several scales, whitening and flow; exported as it stands.

    Parameters
    ----------
    backbone : Backbone
        With one layer.
    channels : int
        Of that layer.
    config : CsFlowConfig
    """

    def __init__(self, backbone: Backbone, channels: int, config: CsFlowConfig):
        super().__init__()
        self.backbone = backbone
        self.whitening = nn.ModuleList(Whitening(channels) for _ in range(config.scales))
        shape = FlowShape(config.scales, channels, config.hidden, config.clamp, config.enlarge_first)
        self.flow = CrossScaleFlow(shape, config.kernels, config.seed)

    def levels(self, image: Tensor) -> list[Tensor]:
        """uint8 RGB (n, h, w, 3) -> features of every scale, finest first, float32 (n, d, h', w').

        A coarser image is the mean of 2 x 2 pixels; the authors' code takes every second pixel.
        """
        x = image.float().permute(0, 3, 1, 2)
        levels = self.backbone(x)
        for _ in self.whitening[1:]:
            x = F.avg_pool2d(x, 2)
            levels = levels + self.backbone(x)
        return levels

    def whiten(self, levels: Sequence[Tensor]) -> list[Tensor]:
        return [whitening(level) for whitening, level in zip(self.whitening, levels, strict=True)]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h', w'), and image scores, float32 (n,).

        The image score is the mean of z^2 over all positions of all scales, twice that of the authors' code. A patch
        score is its mean over the channels at a position, averaged over the scales; the authors' map shows the finest
        scale alone.
        """
        z, _ = self.flow(self.whiten(self.levels(image)))
        energies = [x.square().mean(dim=1) for x in z]
        image_score = torch.cat([energy.flatten(1) for energy in energies], dim=1).mean(dim=1)
        return on_finest_grid(energies).mean(dim=0), image_score


class CsFlow(Method[CsFlowConfig]):
    """Learns the density of a frozen backbone's features of good images, at several scales at once."""

    network: CsFlowNetwork

    name = "cs_flow"
    config_class = CsFlowConfig
    presets = {
        "fast": {"backbone": "efficientnet_lite0", "image_size": (256, 256), "hidden": 64, "steps": 1000},
        "default": {},
    }
    purpose = "defects that change much of the surface: accurate, with a coarse map; blind to small ones"
    preset_purposes = {"fast": "half the steps, half the time of a frame", "default": "accuracy"}

    def __init__(self, config: CsFlowConfig = CsFlowConfig(), *, weights: Path | None = None, pretrained: bool = True):
        super().__init__(config)
        backbone = build_backbone(
            config.backbone, (config.layer,), image_size=config.image_size, weights=weights, pretrained=pretrained
        )
        ((channels, rows, _),) = layer_shapes(backbone, config.image_size)
        stride = config.image_size[0] // rows
        multiple = stride * 2 ** (config.scales - 1)
        if any(side % multiple for side in config.image_size):
            raise SettingsError(
                f"image_size {list(config.image_size)}: {config.scales} scales of {config.layer} need multiples of "
                f"{multiple}"
            )
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.network = CsFlowNetwork(backbone, channels, config).eval()

    @property
    def head(self) -> MapHead:
        return MapHead(patch_weight=0.0, graph_weight=1.0, sigma_px=self.config.sigma_px)

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Extract features, kept in memory (0.25 MB an image with the default settings), and train the flow on them."""
        network = self.network
        extract = each_batch(network, images, course.device, partial(course.progress, "extract features"))
        batches = [[level.cpu() for level in levels] for levels in extract]
        levels = [torch.cat(level) for level in zip(*batches, strict=True)]
        for module, level in zip(network.whitening, levels, strict=True):
            assert isinstance(module, Whitening)
            module.fit(level.permute(0, 2, 3, 1).flatten(0, 2))
        with torch.inference_mode():
            whitened = network.whiten(levels)
        self._train([level.clone() for level in whitened], course)

    def _train(self, levels: list[Tensor], course: Course) -> None:
        """The flow learns from whitened features, float32 (images, d, h', w') for each scale."""
        config = self.config
        flow = self.network.flow.to(course.device).train()
        optimizer = torch.optim.Adam(
            flow.parameters(), lr=config.learning_rate, eps=1e-4, weight_decay=config.weight_decay
        )
        draw = partial(_drawn, len(levels[0]), config.batch_size, config.seed)

        def step(number: int, rng: np.random.Generator) -> Tensor:
            drawn = draw(number)
            batch = [level[drawn].to(course.device) for level in levels]
            with bfloat16_products(course.device, config.bfloat16):
                z, log_determinant = flow(batch)
            loss = negative_log_likelihood(z, log_determinant)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(flow.parameters(), 1.0)  # as in the authors' code
            optimizer.step()
            return loss.detach()

        run_steps(
            step,
            Learner(flow, [optimizer]),
            config.steps,
            seed=config.seed,
            checkpoint=course.checkpoint,
            progress=course.progress,
        )
        self.network.to(CPU).eval()


def _drawn(count: int, batch_size: int, seed: int, step: int) -> Tensor:
    """Images of a step's batch: each epoch goes through all of them in an order of its own."""
    size = min(batch_size, count)
    per_epoch = math.ceil(count / size)
    epoch, position = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(count)
    # The last batch of an epoch is filled up from the front.
    return torch.from_numpy(np.resize(order, per_epoch * size)[position * size : (position + 1) * size])
