"""Computation of every level of a backbone's features, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.dataset.folders import Progress
from edgead.errors import SettingsError
from edgead.workstation.trainer.device import CPU

BATCH = 8


class Levelled(Protocol):
    """Network that returns its backbone's features."""

    def levels(self, image: Tensor) -> list[Tensor]:
        """uint8 RGB (n, h, w, 3) -> features of every level, float32 (n, d, h', w')."""
        ...


def each_batch(
    network: Levelled, images: Sequence[np.ndarray], device: torch.device, progress: Progress
) -> Iterator[list[Tensor]]:
    """Run the backbone over images; yield the levels, on the device, of `BATCH` images at a time, on a CPU of one.

    The network is moved back to the CPU afterwards.

    Raises SettingsError: a feature is NaN or infinite.
    """
    assert isinstance(network, nn.Module)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on CPUs
    size = 1 if device == CPU else BATCH  # faster by a fifth, as it stays in the cache
    for start in range(0, len(images), size):
        batch = np.stack([images[i] for i in range(start, min(start + size, len(images)))])
        with torch.inference_mode():
            levels = network.levels(torch.from_numpy(batch).to(device))
        if not all(level.isfinite().all() for level in levels):
            raise SettingsError("the backbone gave NaN or infinity: its weights are broken")
        yield levels
        progress(min(start + size, len(images)), len(images))
    network.to(CPU, memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def pool(level: Tensor) -> Tensor:
    """Average features (n, d, h, w) over each image, (n, d)."""
    return level.mean(dim=(2, 3))


def on_finest_grid(maps: Sequence[Tensor]) -> Tensor:
    """Resize score maps (n, h, w), finest first, to the grid of the first, (maps, n, h, w)."""
    grid = maps[0].shape[1:]
    return torch.stack(
        [maps[0]] + [F.interpolate(x[:, None], size=grid, mode="bilinear", align_corners=False)[:, 0] for x in maps[1:]]
    )
