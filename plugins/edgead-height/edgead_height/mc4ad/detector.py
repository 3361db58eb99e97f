"""MC4AD on height maps, after Liang et al. (arXiv 2505.05901): the push that would undo a defect, in mm.

The authors' are DA-Gen (random pushes of patches), the two forces and the losses; their network is sparse, on point
clouds. Edgead's are the small U-Net on heights and slopes, sizes of pushes in mm, smooth pushes and the image score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgead.adapt.methods.method import Course, MethodConfig
from edgead.artifact.inputs import Relief
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.relief import add_heights
from edgead.errors import SettingsError
from edgead.heads.push import PushHead
from edgead.workstation.methods.network import NetworkMethod
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU
from edgead.workstation.trainer.loop import descend, run_steps
from edgead_height.mc4ad.losses import corrective_loss
from edgead_height.mc4ad.network import SHRINK, PushNetwork, with_cast
from edgead_height.mc4ad.pushes import drawn_push, smooth_push

# Heights beyond three times their range are clipped: the largest push must stay within it from any height of a part.
_WITHIN = 2.0
_LEAST_DEVIATION = 0.01  # share of 255; a perfectly flat part has no deviation


@dataclass(frozen=True)
class Mc4adConfig(MethodConfig):
    """Settings of MC4AD.

    Attributes
    ----------
    image_size : (int, int)
        Height and width that height maps are resized to, multiples of 16.
    least_mm, most_mm : float
        Least and largest learnt push, at the push's centre, uniform in the logarithm. Deeper dents are found, but the
        push is underestimated.
    smooth_share : float
        Share of smooth dents and bumps, which are not in the paper; the other pushes are the paper's tilted patches.
    widths : tuple of int
        Channels of each level of the U-Net, finest first.
    steps : int
    batch_images : int
    learning_rate : float
        Learning rate of Adam; falls by a cosine.
    window : int
        Side of the squares, in places of 4 pixels, over which pushes are averaged; the image score is the largest mean.
    sigma_px : float
        Smoothing of the anomaly map.
    seed : int
    """

    image_size: tuple[int, int] = (128, 128)
    least_mm: float = 0.03
    most_mm: float = 1.5
    smooth_share: float = 0.5
    widths: tuple[int, ...] = (32, 48, 64)
    steps: int = 1500
    batch_images: int = 4
    learning_rate: float = 2e-3
    window: int = 1
    sigma_px: float = 2.0

    def __post_init__(self) -> None:
        step = SHRINK * 2 ** (len(self.widths) - 1)
        if any(side < step or side % step for side in self.image_size):
            raise SettingsError(f"image_size {list(self.image_size)}: mc4ad needs multiples of {step}")
        if not 0 < self.least_mm <= self.most_mm <= 1e6:
            raise SettingsError(
                f"least_mm {self.least_mm} and most_mm {self.most_mm}: give millimetres above 0, in order"
            )
        if not 0 <= self.smooth_share <= 1:
            raise SettingsError(f"smooth_share {self.smooth_share}: a share from 0 to 1 is needed")
        if len(self.widths) < 2 or min(*self.widths, self.steps, self.batch_images) < 1:
            raise SettingsError("widths (two or more), steps and batch_images must be at least 1")


class Mc4ad(NetworkMethod[Mc4adConfig]):
    """Learns to predict the push, in mm, that would undo a defect of a height map."""

    name = "mc4ad"
    config_class = Mc4adConfig
    inputs = ("relief",)
    purpose = "dents and burrs on height maps, in millimetres: says how far too low or too high"
    preset_purposes = {"default": "after the paper: a CPU to train on; minutes"}
    network: PushNetwork

    def __init__(self, config: Mc4adConfig = Mc4adConfig(), *, weights: Path | None = None, pretrained: bool = True):
        super().__init__(config)
        if weights is not None:
            raise SettingsError("mc4ad learns from your parts alone: leave out --weights")
        self._relief: Relief | None = None
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.network = PushNetwork(config.widths).eval()

    @property
    def head(self) -> PushHead:
        return PushHead(window=self.config.window, sigma_px=self.config.sigma_px)

    def prepared(self, preprocessing: Preprocessing) -> Preprocessing:
        """Widen the range of heights, so that the largest push is not clipped."""
        assert preprocessing.relief is not None
        height_mm = max(preprocessing.relief.height_mm, self.config.most_mm / _WITHIN)
        self._relief = preprocessing.relief.model_copy(update={"height_mm": height_mm})
        self.network.take_ranges(self._relief)
        return preprocessing.model_copy(update={"relief": self._relief})

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Train the network to predict random pushes from good height maps with these pushes."""
        config, network, relief = self.config, self.network, self._relief
        assert relief is not None  # set by `prepared` for every training on height maps
        good = [images[index] for index in range(len(images))]
        deviations = np.median([image.std(axis=(0, 1)) for image in good], axis=0)
        network.usual_mm.copy_(torch.from_numpy(np.maximum(deviations, _LEAST_DEVIATION) / 127.5) * network.reach_mm)
        network.to(course.device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)

        def step(number: int, rng: np.random.Generator) -> Tensor:
            pushed, pushes = zip(
                *(
                    self._pushed(good[int(index)], relief, rng)
                    for index in rng.integers(len(good), size=config.batch_images)
                ),
                strict=True,
            )
            channels = torch.from_numpy(np.stack(pushed)).to(course.device)
            true = torch.from_numpy(np.stack(pushes)).to(course.device).permute(0, 3, 1, 2)
            true = torch.nn.functional.avg_pool2d(true, SHRINK) / network.unit_of(network.in_mm(channels))[:, None]
            internal, external, true = (
                force.permute(0, 2, 3, 1).flatten(0, 2) for force in (*network.two_forces(channels), with_cast(true))
            )
            loss = corrective_loss(internal, external, true)
            return descend(loss, optimizer)

        run_steps(
            step,
            Learner(network, [optimizer]),
            config.steps,
            seed=config.seed,
            schedule=lambda number: 0.5 + 0.5 * float(np.cos(np.pi * number / config.steps)),
            checkpoint=course.checkpoint,
            progress=course.progress,
        )
        network.to(CPU).eval()

    def _pushed(self, good: np.ndarray, relief: Relief, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Push one place of a good map; return the map and the push in mm, float32 (h, w, 3) each."""
        config = self.config
        distance = float(np.exp(rng.uniform(np.log(config.least_mm), np.log(config.most_mm))))
        make = smooth_push if rng.random() < config.smooth_share else drawn_push
        push = make(config.image_size, distance, rng)
        return add_heights(good, push[..., 2], relief), push
