"""Distillation of a patch description network from a pretrained backbone: EfficientAD (arXiv 2303.14535), section 3.1.

The recipe is the paper's: from the image at 256 pixels the network learns to predict, by mean squared error, features
of two layers for the image at 512 pixels, described as in PatchCore and normalised by channel. These are computed once
and kept in files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.adapt.frozen_backbone import BACKBONES, LITE
from edgead.adapt.methods.settings import plain_settings
from edgead.dataset.folders import Progress, StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.files.disk import writing
from edgead.version import __version__
from edgead.workstation.backbones.pretrained import Backbone, build_backbone
from edgead.workstation.methods.efficient_ad.student_teacher import (
    BORDER,
    CHANNELS,
    MODEL_SIZES,
    STRIDE_PX,
    ModelSize,
    build_pdn,
    normalise_pixels,
)
from edgead.workstation.methods.efficient_ad.teacher import save_teacher
from edgead.workstation.trainer.checkpoint import Checkpoint, Learner
from edgead.workstation.trainer.device import CPU, bfloat16_products, use_cores
from edgead.workstation.trainer.loop import constant, run_steps
from edgead.workstation.trainer.pretraining_images import PretrainingImages, to_batch

BACKBONE_PX, PDN_PX = 512, 256
"""Sides of the images that the backbone sees, and the network that is distilled from it (EfficientAD, section 3.1)."""

POOLED_CHANNELS = 1024
"""Numbers that PatchCore pools each layer's neighbourhood to, before all layers are pooled to the descriptor."""
SAVE_EVERY = 16
HELD_OUT_EVERY = 20


class FeatureCache:
    """Cache of numbered images with the backbone's layers; an image depends only on the seed and its number.

    Parameters
    ----------
    images : PretrainingImages
    backbone : Backbone
        Backbone, on its device.
    grey_rate : float
        Share of images without colour.
    seed : sequence of int
        Seed of all images; the number of the image is appended.
    """

    def __init__(self, images: PretrainingImages, backbone: Backbone, grey_rate: float, seed: Sequence[int]):
        self._images = images
        self._backbone = backbone
        self._grey_rate = grey_rate
        self._seed = list(seed)
        self._files: Sequence[np.ndarray] = ()

    def get(self, number: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return an image, uint8 RGB (256, 256, 3), and its layers, float16 (channels, h, w) each."""
        if self._files:
            image, *layers = (file[number] for file in self._files)
            return image, layers
        rng = np.random.default_rng([*self._seed, number])
        large = self._images.draw(rng, BACKBONE_PX, grey_rate=self._grey_rate)
        image = cv2.resize(large, (PDN_PX, PDN_PX), interpolation=cv2.INTER_AREA)
        with torch.inference_mode():
            layers = self._backbone(self._on_device(to_batch([large])))
        return image, [layer[0].half().cpu().numpy() for layer in layers]

    def _on_device(self, batch: Tensor) -> Tensor:
        return batch.to(self._backbone.mean.device, memory_format=torch.channels_last)

    def keep(self, folder: Path, count: int, belongs_to: dict[str, Any], progress: Progress) -> None:
        """Compute the first `count` images into files in `folder`, or resume an interrupted computation.

        Files of another computation are replaced. An image takes about 0.85 MB for a Lite backbone.
        """
        names = ["images.npy", *(f"layer{i}.npy" for i in range(len(self._backbone.layers)))]
        folder.mkdir(parents=True, exist_ok=True)
        state = folder / "state.json"
        facts = json.loads(json.dumps({**belongs_to, "count": count}))
        done = 0
        with suppress(OSError, ValueError, KeyError):
            earlier = json.loads(state.read_text(encoding="utf-8"))
            whole = all((folder / name).is_file() for name in names)
            done = earlier["done"] if whole and earlier.get("belongs_to") == facts else 0
        if not done:
            state.unlink(missing_ok=True)  # removed first, as it describes files that are about to be replaced
        image, layers = self.get(0)
        shapes = [(count, *array.shape) for array in (image, *layers)]
        types = [array.dtype for array in (image, *layers)]
        with writing(folder):
            files = [
                _open_array(folder / name, None if done else (kind, shape))
                for name, kind, shape in zip(names, types, shapes, strict=True)
            ]
        progress(done, count)
        for number in range(done, count):
            image, layers = self.get(number)
            for file, array in zip(files, (image, *layers), strict=True):
                file[number] = array
            if (number + 1) % SAVE_EVERY == 0 or number + 1 == count:
                for file in files:
                    file.flush()
                write_whole(state, json.dumps({"belongs_to": facts, "done": number + 1}).encode(), durable=False)
            progress(number + 1, count)
        self._files = files


def _open_array(path: Path, new: tuple[np.dtype, tuple[int, ...]] | None) -> np.memmap:
    """Open an array file, or create a `new` one, with all of its disk space allocated."""
    kind, shape = new or (None, None)
    array = np.lib.format.open_memmap(path, mode="w+" if new else "r+", dtype=kind, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            # A write into mapped memory without space on the disk kills the process (SIGBUS).
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


class Descriptors(nn.Module):
    """PatchCore's description of a backbone's layers (Roth et al. 2022, section 3.1): `channels` numbers a position.

    The neighbourhood of 3 x 3 positions of every layer, flattened, is averaged over adaptive runs to 1024 numbers,
    resized to the grid of the finest layer, and all layers together are averaged to `channels`. All of this is linear
    and the same at every position, so that one fixed 3 x 3 convolution for each layer computes it. With two layers,
    each gives half of the channels; no random mixing is needed, nor a special rule for backbones with few channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, widths: Sequence[int], channels: int):
        super().__init__()
        joined = F.adaptive_avg_pool1d(torch.eye(len(widths) * POOLED_CHANNELS), channels).T
        for number, (width, part) in enumerate(zip(widths, joined.split(POOLED_CHANNELS, dim=1), strict=True)):
            pooling = F.adaptive_avg_pool1d(torch.eye(9 * width), POOLED_CHANNELS).T
            self.register_buffer(f"kernel{number}", (part @ pooling).view(channels, width, 3, 3))
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Layers, (n, channels, h, w) each, finest first -> normalised descriptors on the grid of the first."""
        total = torch.zeros((), device=self.mean.device)
        for number, layer in enumerate(layers):
            described = F.conv2d(layer, self.get_buffer(f"kernel{number}"), padding=1)
            total = total + F.interpolate(described, size=layers[0].shape[-2:], mode="bilinear", align_corners=False)
        return (total - self.mean) / self.std

    def fit_normalisation(self, images: Iterable[Sequence[Tensor]]) -> None:
        """Learn the mean and the deviation of every channel from the layers of some images."""
        moments = []
        for layers in images:
            described = self(layers).double()
            moments.append(torch.stack([described.mean(dim=(0, 2, 3)), described.square().mean(dim=(0, 2, 3))]))
        mean, square = torch.stack(moments).mean(dim=0)
        self.mean.copy_(mean.view_as(self.mean))
        self.std.copy_((square - mean.square()).clamp_min(1e-12).sqrt().view_as(self.std))


@dataclass(frozen=True)
class DistillConfig:
    """Settings of a distillation; the defaults are the paper's where it has them.

    Attributes
    ----------
    model_size : {"small", "medium"}
    backbone, layers : str, tuple of str
        See `edgead.workstation.backbones.pretrained`. The paper takes layer2 and layer3 of a WideResNet-101.
    steps, batch_size : int
        Images a step.
    crop_px, crops : int
        Side of the squares of the image of 256 pixels that the network sees, and their number per image. 256 and 1 are
        the paper's; smaller ones show more images for the same work.
    learning_rate, weight_decay : float
        Parameters of Adam.
    cosine : bool
        Let the learning rate fall to 0 along half a cosine; the paper keeps it.
    grey_rate : float
        Share of images without colour.
    texture_share : float
        Share of procedural textures among the images; the paper, with ImageNet at hand, has none.
    cached_images : int
        Number of images for which the backbone runs once, and which the steps then reuse; 0 draws fresh images
        for every step, as in the paper, and runs the backbone on each.
    normalisation_images : int
        Number of images for the mean and the deviation of every channel; the paper uses 10,000.
    held_out_images : int
        Number of images for the final loss, from photographs that the network does not learn from.
    bfloat16 : bool
        Learn with products in bfloat16: several times as fast on GPUs and on CPUs with AMX.
    seed : int
    """

    model_size: ModelSize = "small"
    backbone: str = "efficientnet_lite2"
    layers: tuple[str, ...] = ("stride8", "stride16")
    steps: int = 60_000
    batch_size: int = 16
    crop_px: int = 256
    crops: int = 1
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    cosine: bool = False
    grey_rate: float = 0.1
    texture_share: float = 0.25
    cached_images: int = 2_000
    normalisation_images: int = 256
    held_out_images: int = 64
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise SettingsError(f"unknown backbone {self.backbone!r}: choose one of {', '.join(BACKBONES)}")
        if self.model_size not in MODEL_SIZES:
            raise SettingsError(f"unknown model_size {self.model_size!r}: choose one of {', '.join(MODEL_SIZES)}")
        if self.crop_px % STRIDE_PX or not 36 <= self.crop_px <= PDN_PX:
            raise SettingsError(f"crop_px {self.crop_px}: a multiple of {STRIDE_PX} from 36 to {PDN_PX}")
        if min(self.steps, self.batch_size, self.crops, self.normalisation_images) < 1:
            raise SettingsError("steps, batch_size, crops and normalisation_images must be at least 1")


class Distiller:
    """Distillation of one teacher: the images, the backbone's normalised descriptors, and the network.

    Parameters
    ----------
    config : DistillConfig
    paths : sequence of Path
        Photographs; every twentieth is held out to measure the loss.
    device : torch.device
    weights : Path, optional
        Weights of the backbone, instead of the packaged ones.

    Attributes
    ----------
    network : nn.Module
        The teacher.
    """

    def __init__(
        self, config: DistillConfig, paths: Sequence[Path], *, device: torch.device, weights: Path | None = None
    ):
        self.config = config
        self.device = device
        size = (BACKBONE_PX, BACKBONE_PX)
        backbone = build_backbone(config.backbone, config.layers, image_size=size, weights=weights)
        backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.inference_mode():
            layers = backbone(torch.zeros(1, 3, *size, device=device))
        if layers[0].shape[-1] != PDN_PX // STRIDE_PX:
            finest = "stride8" if config.backbone in LITE else "layer2"
            raise SettingsError(f"layers {list(config.layers)}: the finest must be {finest}, which has the PDN's grid")
        learned = [path for number, path in enumerate(paths) if number % HELD_OUT_EVERY] or paths
        self.learned, self.held_out = (
            FeatureCache(
                PretrainingImages(some, config.texture_share), backbone, config.grey_rate, [config.seed, which]
            )
            for which, some in enumerate((learned, paths[::HELD_OUT_EVERY]))
        )
        self.descriptors = Descriptors([layer.shape[1] for layer in layers], CHANNELS).to(device)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.network = build_pdn(config.model_size, CHANNELS)
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, *, checkpoint: Checkpoint | None = None, progress: StageProgress = no_progress) -> None:
        """Distil the teacher; an interrupted run with the same checkpoint is resumed."""
        config = self.config
        sample = range(min(config.normalisation_images, config.cached_images or config.normalisation_images))
        with torch.inference_mode():
            self.descriptors.fit_normalisation(self._layers([self.learned.get(number)[1]]) for number in sample)
        optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

        def step(number: int, rng: np.random.Generator) -> Tensor:
            fresh = range(number * config.batch_size, (number + 1) * config.batch_size)
            numbers = rng.integers(config.cached_images, size=config.batch_size) if config.cached_images else fresh
            loss = self._loss(self.learned, numbers, rng)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.detach()

        self.network.train()
        run_steps(
            step,
            Learner(self.network, [optimizer], "distil"),
            config.steps,
            seed=config.seed,
            schedule=self._cosine if config.cosine else constant,
            checkpoint=checkpoint,
            progress=progress,
        )
        self.network.eval()

    @torch.inference_mode()
    def validation_loss(self) -> float:
        """Compute the mean squared error on held-out photographs and textures; constant channels would give 1."""
        rng = np.random.default_rng(self.config.seed)
        return float(
            np.mean([float(self._loss(self.held_out, [number], rng)) for number in range(self.config.held_out_images)])
        )

    def _cosine(self, number: int) -> float:
        return float(np.cos(0.5 * np.pi * number / self.config.steps) ** 2)

    def _loss(self, described: FeatureCache, numbers: Iterable[int], rng: np.random.Generator) -> Tensor:
        """Compute the mean squared error over random squares of some images."""
        config = self.config
        images, layers = zip(*(described.get(int(number)) for number in numbers), strict=True)
        in_bfloat16 = bfloat16_products(self.device, config.bfloat16 and torch.is_grad_enabled())
        with torch.no_grad(), in_bfloat16:
            targets = self.descriptors(self._layers(layers)).float()
            inputs = normalise_pixels(to_batch(images, self.device))
        side = config.crop_px // STRIDE_PX
        shown, wanted = [], []
        for image, target in zip(inputs, targets, strict=True):
            for y, x in rng.integers(PDN_PX // STRIDE_PX - side + 1, size=(config.crops, 2)):
                rows, columns = (slice(at * STRIDE_PX, (at + side) * STRIDE_PX) for at in (y, x))
                shown.append(image[:, rows, columns])
                wanted.append(target[:, y + BORDER : y + side - BORDER, x + BORDER : x + side - BORDER])
        with in_bfloat16:
            found = self.network(torch.stack(shown).contiguous(memory_format=torch.channels_last))
        return F.mse_loss(found.float(), torch.stack(wanted))

    def _layers(self, images: Sequence[Sequence[np.ndarray]]) -> list[Tensor]:
        """Stack the layers of some images, one batch for each layer."""
        return [torch.from_numpy(np.stack(same)).to(self.device).float() for same in zip(*images, strict=True)]


def distill(
    paths: Sequence[Path],
    destination: Path,
    config: DistillConfig,
    *,
    device: torch.device = CPU,
    weights: Path | None = None,
    features: Path | None = None,
    progress: StageProgress = no_progress,
) -> dict[str, Any]:
    """Distil a teacher into a file; the same call after an interruption resumes it.

    The state is kept beside `destination`, in a folder of its name with `.checkpoint` added, until the teacher is
    complete.

    Parameters
    ----------
    paths : sequence of Path
        Photographs, see `find_photographs`.
    destination : Path
        File of safetensors, float16; the returned dict is its metadata.
    config : DistillConfig
    device : torch.device
    weights : Path, optional
        Weights of the backbone, instead of the packaged ones.
    features : Path, optional
        Folder to keep the backbone's features in, for a teacher of another size; by default they are removed.
    progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    dict
        Settings, number and sha256 of the photographs, and the mean squared error on held-out images, for which a
        constant for every channel gives 1.
    """
    source = {
        "photographs": len(paths),
        "photographs_sha256": _sha256_of(paths),
        "weights": weights and hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    facts = {"settings": plain_settings(config), **source}
    use_cores()
    distiller = Distiller(config, paths, device=device, weights=weights)
    checkpoint = Checkpoint(Path(f"{os.path.abspath(destination)}.checkpoint"), {**facts, "device": device.type})
    folder = features or checkpoint.folder / "features"
    if config.cached_images:
        kept = ("backbone", "layers", "grey_rate", "texture_share", "seed")
        belongs_to = {**source, **{name: getattr(config, name) for name in kept}}
        distiller.learned.keep(folder, config.cached_images, belongs_to, partial(progress, "describe images"))
    distiller.run(checkpoint=checkpoint, progress=progress)
    facts |= {
        "loss": round(distiller.validation_loss(), 4),
        "versions": {"edgead": __version__, "torch": torch.__version__},
    }
    save_teacher(distiller.network, destination, facts)
    if features is None:
        shutil.rmtree(folder, ignore_errors=True)
    checkpoint.remove()
    return facts


def _sha256_of(paths: Sequence[Path]) -> str:
    """Hash the names and contents of the photographs."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path.name) + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
