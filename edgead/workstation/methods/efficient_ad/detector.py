"""EfficientAD: Batzner, Heckler, Koenig, "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level
Latencies", WACV 2024 (arXiv 2303.14535). Algorithms and tables are those of its appendix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from edgead import kernels
from edgead.adapt.methods.method import Course, MethodConfig
from edgead.dataset.folders import Progress
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.methods.efficient_ad.student_teacher import (
    CHANNELS,
    MODEL_SIZES,
    ModelSize,
    StudentTeacher,
    augment,
    build_pdn,
    draw_other,
    map_quantiles,
    total_loss,
)
from edgead.workstation.methods.efficient_ad.teacher import fold_normalisation, load_teacher
from edgead.workstation.methods.network import NetworkMethod
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU, bfloat16_products, fixed_shapes
from edgead.workstation.trainer.loop import descend, run_steps
from edgead.workstation.trainer.prefetch import KeptImages, Prefetcher
from edgead.workstation.trainer.pretraining_images import PretrainingImages, find_photographs, to_batch

DECAY_AFTER = 0.95


@dataclass(frozen=True)
class EfficientADConfig(MethodConfig):
    """Settings of EfficientAD.

    Attributes
    ----------
    model_size : {"small", "medium"}
        EfficientAD-S and -M of the paper. `lite`, ours, has settings of its own.
    image_size : (int, int)
        Multiples of 32; the paper's is (256, 256).
    padding : bool
        Zero padding in teacher and student. Without it borders are computed from real pixels only, and the maps'
        outermost four positions repeat their neighbours.
    steps : int
        Number of training steps, of one image each.
    learning_rate, weight_decay : float
        Parameters of Adam. The rate falls to a tenth after 95 % of the steps.
    hard_quantile : float
        Quantile p_hard of the loss L_hard.
    validation_share : float
        Share of the good images that is held out to normalise the maps.
    penalty_images : str, optional
        Folder of photographs of anything but the product, for the pretraining penalty; the paper uses ImageNet. By
        default the penalty uses procedural textures only.
    bfloat16 : bool
        Learn with products in bfloat16: several times as fast for small and medium on GPUs and on CPUs with AMX.
    seed : int
    """

    model_size: ModelSize = "small"
    image_size: tuple[int, int] = (256, 256)
    padding: bool = False
    steps: int = 70_000
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    hard_quantile: float = 0.999
    validation_share: float = 0.1
    penalty_images: str | None = None
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.model_size not in MODEL_SIZES:
            raise SettingsError(f"unknown model_size {self.model_size!r}: choose one of {', '.join(MODEL_SIZES)}, lite")
        if not (0 < self.validation_share < 1 and 0 < self.hard_quantile < 1):
            raise SettingsError("validation_share and hard_quantile must lie between 0 and 1")


class EfficientAD(NetworkMethod[EfficientADConfig]):
    """Detector whose student learns to predict a frozen teacher on good images; large errors are anomalies."""

    network: StudentTeacher

    name = "efficient_ad"
    smallest_px = 64
    config_class = EfficientADConfig
    presets = {
        "default": {"model_size": "lite"},
        "fine": {"model_size": "lite", "backbone": "efficientnet_lite2", "image_size": (384, 384)},
        "paper": {},
        "paper_medium": {"model_size": "medium"},
    }
    purpose = "a frame time without a memory bank; as published, with a GPU and a public teacher (--weights)"
    preset_purposes = {
        "default": "a CPU to train on: ours, a packaged backbone as the teacher; learns in minutes",
        "fine": "the same with a larger network and more pixels: twice the time, and sharper eyes for small defects",
        "paper": "EfficientAD-S as published, 70,000 steps, --set penalty_images=IMAGENET; --weights teacher_small.pth "
        "of nelson1425/EfficientAd, or anomalib's",
        "paper_medium": "EfficientAD-M as published, penalty_images as of paper; --weights teacher_medium.pth of "
        "nelson1425/EfficientAd, or anomalib's",
    }

    @classmethod
    def variant(cls, settings: Mapping[str, Any]) -> type[Self]:
        if settings.get("model_size") == "nano":
            raise SettingsError(
                "model_size nano was taken out after version 0.1.0, with its teacher: retrain with the preset default "
                "of efficient_ad; models of nano still run as they are"
            )
        if settings.get("model_size") != "lite":
            return cls
        from edgead.workstation.methods.efficient_ad.lite import EfficientADLite

        return cast("type[Self]", EfficientADLite)

    def __init__(
        self,
        config: EfficientADConfig = EfficientADConfig(),
        *,
        weights: Path | None = None,
        pretrained: bool = True,
    ):
        super().__init__(config)
        size = config.model_size
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            if pretrained:
                teacher = load_teacher(size, file=weights, padding=config.padding)
            else:
                teacher = build_pdn(size, CHANNELS, padding=config.padding).eval().requires_grad_(False)
            self.network = StudentTeacher(teacher, size, config.image_size, padding=config.padding).eval()

    @property
    def head(self) -> MapHead:
        return MapHead(sigma_px=0.0)  # the paper's: the maximum of the map as it is

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Learn from good images (algorithm 1)."""
        held_out = max(1, round(self.config.validation_share * len(images)))
        if held_out >= len(images):
            raise SettingsError(f"efficient_ad needs at least two good images, found {len(images)}")
        order = np.random.default_rng(self.config.seed).permutation(len(images))
        images = KeptImages(images)
        self.network.to(course.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._normalise_teacher(images, order[held_out:], partial(course.progress, "normalise teacher"))
        self._train(images, order[held_out:], course)
        self._normalise_maps(images, order[:held_out], partial(course.progress, "normalise maps"))
        self.network.to(CPU, memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]

    def _pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        return to_batch(images, self.network.quantiles.device)

    @torch.no_grad()
    def _normalise_teacher(self, images: Sequence[np.ndarray], chosen: np.ndarray, progress: Progress) -> None:
        """Bring every channel of the teacher to mean 0 and deviation 1 over the good images."""
        moments = []
        for done, number in enumerate(chosen, 1):
            output = self.network.teacher(self.network.normalise(self._pixels([images[number]]))).double()
            moments.append(torch.stack([output.mean(dim=(0, 2, 3)), output.square().mean(dim=(0, 2, 3))]))
            progress(done, len(chosen))
        mean, square = torch.stack(moments).mean(dim=0)
        std = (square - mean.square()).clamp_min(1e-12).sqrt()
        fold_normalisation(self.network.teacher, mean.float(), std.float())

    def _train(self, images: Sequence[np.ndarray], chosen: np.ndarray, course: Course) -> None:
        config, network = self.config, self.network
        trained = nn.ModuleList([network.student, network.autoencoder]).train()
        optimizer = torch.optim.Adam(trained.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        others = self._other_images()

        def draw(number: int) -> list[np.ndarray]:
            rng = np.random.default_rng([config.seed, number, 1])
            return [images[chosen[rng.integers(len(chosen))]], draw_other(others, rng, config.image_size)]

        def step(number: int, rng: np.random.Generator) -> Tensor:
            image, other = self._pixels(drawn(number)).split(1)
            with bfloat16_products(course.device, config.bfloat16):
                loss = total_loss(network, image, augment(image, rng), other, config.hard_quantile)
            return descend(loss, optimizer)

        threads = kernels.threads() if course.device.type == "cuda" else 0
        with fixed_shapes(), Prefetcher(draw, config.steps, threads=threads) as drawn:
            run_steps(
                step,
                Learner(trained, [optimizer]),
                config.steps,
                seed=config.seed,
                schedule=partial(rate_factor, config.steps),
                checkpoint=course.checkpoint,
                progress=course.progress,
            )
        trained.eval()

    def _other_images(self) -> PretrainingImages:
        folder = self.config.penalty_images
        return PretrainingImages(find_photographs(Path(folder)) if folder else [])

    @torch.no_grad()
    def _normalise_maps(self, images: Sequence[np.ndarray], chosen: np.ndarray, progress: Progress) -> None:
        """Set the quantiles of both maps at image size, from the held-out good images.

        The maps are resized first, as in algorithm 1. nelson1425/EfficientAd takes quantiles before the resize, which
        are a little higher, as interpolation lowers peaks.
        """
        maps = []
        for done, number in enumerate(chosen, 1):
            both = self.network.maps(self.network.normalise(self._pixels([images[number]])))
            maps.append(F.interpolate(both, size=self.config.image_size, mode="bilinear")[0].flatten(1).cpu().numpy())
            progress(done, len(chosen))
        self.network.quantiles.copy_(map_quantiles(np.concatenate(maps, axis=1)))


def rate_factor(steps: int, number: int) -> float:
    """Factor of the learning rate: a tenth after 66,500 of 70,000 steps (algorithm 1), or the same share."""
    return 1.0 if number < int(DECAY_AFTER * steps) else 0.1
