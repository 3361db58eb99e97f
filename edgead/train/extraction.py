"""Patch features of many images, taken once from a frozen backbone and kept in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from edgead.dataset import Progress
from edgead.errors import SettingsError
from edgead.train.device import CPU
from edgead.train.network import PatchFeatures

BATCH = 8


def extract_patches(
    network: PatchFeatures,
    images: Sequence[np.ndarray],
    grid: tuple[int, int],
    *,
    max_patches: int,
    rng: np.random.Generator,
    device: torch.device,
    progress: Progress,
) -> np.ndarray:
    """Fit the network's scale to good images and return their standardised features, float32 (patches, d).

    Parameters
    ----------
    network : PatchFeatures
        Is on the CPU afterwards.
    images : sequence of ndarray of shape (h, w, 3), uint8, RGB
    grid : (int, int)
        Height and width of the patch grid.
    max_patches : int
        More than this are thinned at random, by the same number in every image, which bounds the memory.
    rng : Generator
    device : torch.device
        Where the backbone runs.
    progress : callable
        Called with (done, total) images.

    Raises
    ------
    SettingsError
        If the backbone gives NaN or infinity.
    """
    per_image, channels = math.prod(grid), network.mean.numel()
    keep = min(per_image, max(1, max_patches // len(images)))
    patches = np.empty((keep * len(images), channels), np.float32)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on CPUs
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = np.stack([images[i] for i in range(start, min(start + BATCH, len(images)))])
            features = network.raw_features(torch.from_numpy(batch).to(device)).permute(0, 2, 3, 1).cpu().numpy()
            for at, image in enumerate(features, start):
                rows = image.reshape(per_image, channels)
                if keep < per_image:
                    rows = rows[np.sort(rng.choice(per_image, keep, replace=False))]
                patches[at * keep : (at + 1) * keep] = rows
            progress(start + len(batch), len(images))
        network.to(CPU, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        if not np.isfinite(patches).all():
            raise SettingsError("the backbone gave NaN or infinity: its weights are broken")
        network.fit_scale(torch.from_numpy(patches))
        for block in torch.from_numpy(patches).split(65536):
            block.copy_(network.standardise(block))
    return patches
