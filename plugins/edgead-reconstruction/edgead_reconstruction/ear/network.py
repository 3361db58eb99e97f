"""Networks of EAR: a U-Net that reconstructs suspicious pixels from a coarse mosaic (the hint); the exported module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead_reconstruction.ear.saliency import SaliencyMask
from edgead_reconstruction.ear.similarity import msgms_distance
from edgead_reconstruction.fader.attenuation import Attenuation

SHRINK = 4
"""Pixels of a side that share a patch score."""


class UNet(nn.Module):
    """U-Net that reconstructs images (n, 3, h, w), whose sides are multiples of 2 ** (len(widths) - 1).

    `widths`: channels of each level, finest first.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.encoder = nn.ModuleList(
            _double(before, after) for before, after in zip((3, *widths), widths, strict=False)
        )
        self.decoder = nn.ModuleList(
            _double(deep + skip, skip) for deep, skip in zip(widths[1:], widths[:-1], strict=True)
        )
        self.last = nn.Conv2d(widths[0], 3, 1)

    def forward(self, image: Tensor, gates: Sequence[Attenuation] = ()) -> tuple[Tensor, list[Tensor]]:
        """Return the reconstructed images and each gate's logits, (n, 1, h', w'), finest first.

        `gates`: FADeR's gates: none, or one for each skip connection, finest first.
        """
        *skips, x = self.encode(image)
        logits: list[Tensor] = []
        for level in reversed(range(len(skips))):
            skip = skips[level]
            if gates:
                skip, passed = gates[level](skip)
                logits.insert(0, passed)
            x = self.decoder[level](torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], dim=1))
        return self.last(x), logits

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of each level, finest first; `forward` gates all but the last, if there are gates."""
        levels: list[Tensor] = []
        x = image
        for level, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if level else x)
            levels.append(x)
        return levels


class EarNetwork(nn.Module):
    """Exported module of EAR: masks suspicious pixels, replaces them by the hint, reconstructs and compares.

    `mosaic`: side of a tile of the hint, pixels; 0 leaves masked pixels empty.
    `gates`: empty, or FADeR's.
    """

    def __init__(self, mask: SaliencyMask, unet: UNet, mosaic: int):
        super().__init__()
        self.mask = mask
        self.unet = unet
        self.mosaic = mosaic
        self.gates = nn.ModuleList()

    def hint(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> the image in 0..1 with the hint in place of suspicious pixels, (n, 3, h, w)."""
        return obscure(to_pixels(image), self.mask(image), self.mosaic)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h / 4, w / 4), in 0..1."""
        rebuilt, _ = self.unet(self.hint(image), list(self.gates))
        distance = msgms_distance(to_pixels(image), rebuilt)
        return F.avg_pool2d(distance[:, None], SHRINK)[:, 0]


def to_pixels(image: Tensor) -> Tensor:
    """uint8 RGB (n, h, w, 3) -> (n, 3, h, w) in 0..1."""
    return image.float().permute(0, 3, 1, 2) / 255


def obscure(image: Tensor, mask: Tensor, mosaic: int) -> Tensor:
    """Replace masked pixels by the hint.

    `image`: Tensor of shape (n, 3, h, w).
    `mask` (Tensor of shape (n, 1, h, w)): 1 where the image is replaced, 0 where it is kept.
    `mosaic`: side of the tiles, in pixels, whose means are the hint; 0 leaves masked pixels empty.
    """
    if not mosaic:
        return image * (1 - mask)
    hint = F.interpolate(F.avg_pool2d(image, mosaic), scale_factor=float(mosaic), mode="nearest")
    return image + mask * (hint - image)


def _double(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [nn.Conv2d(before, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
