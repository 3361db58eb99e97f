"""Exported network of INP-Former: a frozen backbone, reconstruction of its tokens, and the map of errors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.workstation.backbones.pretrained import Backbone
from edgead_foundation.inp_former.reconstruction import Reconstruction, distances, mean_of

KERNEL, SIGMA = 5, 4.0
"""Width and deviation of the Gaussian that smooths the authors' maps, in positions of the map."""


class InpNetwork(nn.Module):
    """Network of INP-Former, exported unchanged.

    `backbone`: backbone; its layers form equal groups of consecutive layers, and the mean of each group is a target of
        reconstruction.
    `grid`, `image_size`: height and width in patches, and in pixels.
    `map_size`: side of the output map.
    """

    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        backbone: Backbone,
        reconstruction: Reconstruction,
        grid: tuple[int, int],
        image_size: tuple[int, int],
        map_size: int,
    ):
        super().__init__()
        self.backbone = backbone
        self.reconstruction = reconstruction
        self.grid = grid
        for name, side, pixels in zip(("rows", "columns"), grid, image_size, strict=True):
            self.register_buffer(name, enlargement(side, pixels, map_size))

    def encode(self, image: Tensor) -> list[Tensor]:
        """uint8 RGB (n, h, w, 3) -> targets of reconstruction, (n, t, d) for each group."""
        return self.group(self.backbone(image.float().permute(0, 3, 1, 2)))

    def group(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Layers of the backbone, (n, d, h', w') -> the mean of each group of layers, (n, t, d)."""
        tokens = [level.flatten(2).transpose(1, 2) for level in levels]
        size = len(tokens) // self.reconstruction.groups
        return [mean_of(tokens[start : start + size]) for start in range(0, len(tokens), size)]

    def score(self, taught: Sequence[Tensor]) -> Tensor:
        """Results of `encode` -> each patch's error of reconstruction, averaged over all groups, (n, h', w')."""
        made, _ = self.reconstruction(mean_of(taught))
        far = [distances(target, x) for target, x in zip(taught, made, strict=True)]
        return torch.stack(far).mean(dim=0).unflatten(1, self.grid)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> the authors' map, float32 (n, map_size, map_size)."""
        return self.enlarge(self.score(self.encode(image)))

    def enlarge(self, scores: Tensor) -> Tensor:
        """Scores of patches (n, h', w') -> the authors' map, (n, map_size, map_size)."""
        return self.rows @ scores @ self.columns.T


def enlargement(grid: int, pixels: int, map_size: int) -> Tensor:
    """Compute the authors' resize from one side of a patch grid to a side of their map, as a matrix (map_size, grid).

    The matrix resizes to the image with aligned corners, then to the map with aligned centres, and applies a Gaussian
    that reaches two positions to each side, with zero padding. Rows and columns have the same matrix.
    """
    unit = torch.eye(grid)[None]
    image = F.interpolate(unit, size=pixels, mode="linear", align_corners=True)
    resized = F.interpolate(image, size=map_size, mode="linear", align_corners=False)
    places = torch.arange(KERNEL) - KERNEL // 2
    kernel = torch.exp(-(places**2) / (2 * SIGMA**2))
    smoothed = F.conv1d(resized[0][:, None], (kernel / kernel.sum())[None, None], padding=KERNEL // 2)
    return smoothed[:, 0].T.contiguous()
