"""Images and how a backbone describes them: what a distillation teaches, computed once and kept in files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.dataset.folders import Progress
from edgead.files.atomic import write_whole
from edgead.files.disk import writing
from edgead.workstation.backbones.pretrained import Backbone
from edgead.workstation.trainer.pretraining_images import PretrainingImages, to_batch

BACKBONE_PX, PDN_PX = 512, 256
"""What the backbone sees, and the network that is distilled from it (EfficientAD, section 3.1)."""

POOLED_CHANNELS = 1024
"""Numbers that PatchCore pools each layer's neighbourhood to, before all layers are pooled to the descriptor."""
SAVE_EVERY = 16


class FeatureCache:
    """Numbered images, each with the backbone's layers; an image depends on the seed and its number alone.

    Parameters
    ----------
    images : PretrainingImages
    backbone : Backbone
        On the device that it shall run on.
    grey_rate : float
        Share of images without colour.
    seed : sequence of int
        Of all images; the number of the image is added.
    """

    def __init__(self, images: PretrainingImages, backbone: Backbone, grey_rate: float, seed: Sequence[int]):
        self._images = images
        self._backbone = backbone
        self._grey_rate = grey_rate
        self._seed = list(seed)
        self._files: Sequence[np.ndarray] = ()

    def get(self, number: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Image uint8 RGB (256, 256, 3), and its layers, float16 (channels, h, w) each."""
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
        """Compute the first `count` images into files in `folder`, or go on where that was interrupted.

        Files that belong to something else are replaced. About 0.85 MB an image for a Lite backbone.
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
            state.unlink(missing_ok=True)  # or it would speak of files that are about to be replaced
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
    """Open an array file, or write a `new` one, with the whole of its space on the disk."""
    kind, shape = new or (None, None)
    array = np.lib.format.open_memmap(path, mode="w+" if new else "r+", dtype=kind, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            # A write into a map for which the disk has no space kills the process (SIGBUS).
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


class Descriptors(nn.Module):
    """A backbone's layers as PatchCore describes patches (Roth et al. 2022, section 3.1), `channels` a position.

    The neighbourhood of 3 x 3 positions of every layer, flattened, is averaged over adaptive runs to 1024 numbers,
    brought to the grid of the finest layer, and all layers together are averaged to `channels`. All of that is linear
    and the same everywhere: one fixed 3 x 3 convolution a layer does it. With two layers, each gives half of the
    channels; none is mixed at random, and a backbone with few channels needs no other rule.
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
