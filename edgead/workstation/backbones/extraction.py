"""Extraction of many images' patch features by a frozen backbone, into memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from edgead.dataset.folders import Progress
from edgead.workstation.backbones.patch_features import PatchFeatures
from edgead.workstation.backbones.pyramid import each_batch


def extract_patches(
    network: PatchFeatures,
    images: Sequence[np.ndarray],
    grid: tuple[int, int],
    *,
    max_patches: int,
    groups: Sequence[int] = (),
    rng: np.random.Generator,
    device: torch.device,
    progress: Progress,
) -> np.ndarray:
    """Fit the network's scale to good images and return their standardised features, float32 (patches, d).

    `network`: network to fit; it is moved back to the CPU.
    `images`: sequence of ndarray of shape (h, w, 3), uint8, RGB.
    `grid`: height and width of the patch grid.
    `max_patches`: bound of the memory: more patches are thinned at random, by the same number in every image.
    `groups`: group of each image, for a network that whitens; by default every image is its own.
    `device`: device of the backbone.
    Raises SettingsError: the backbone gives NaN or infinity.
    """
    per_image, channels = math.prod(grid), network.mean.numel()
    keep = min(per_image, max(1, max_patches // len(images)))
    patches = np.empty((keep * len(images), channels), np.float32)
    with torch.inference_mode():
        at = 0
        for levels in each_batch(network, images, device, progress):
            for image in network.align(levels).permute(0, 2, 3, 1).cpu().numpy():
                rows = image.reshape(per_image, channels)
                if keep < per_image:
                    rows = rows[np.sort(rng.choice(per_image, keep, replace=False))]
                patches[at : at + keep] = rows
                at += keep
        network.fit_scale(torch.from_numpy(patches))
        for block in torch.from_numpy(patches).split(65536):
            block.copy_(network.standardise(block))
        if network.whiten:
            network.fit_metric(torch.from_numpy(patches), groups or range(len(images)), seed=int(rng.integers(2**31)))
            for block in torch.from_numpy(patches).split(65536):
                block.copy_(block @ network.metric[..., 0, 0])
    return patches
