"""Network of `mc4ad` on height maps: a small U-Net of edgead's, and the authors' two heads for forces."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.artifact.inputs import Relief
from edgead_height.mc4ad.losses import joint_of

SHRINK = 4
"""Side in pixels of the squares that share a push."""
FEATURES, HIDDEN, SIDES = 32, 16, 3
_MIDDLE = 127.5
# The authors divide by the largest radius. Cosines and the agreement of the forces do not constrain the length of a
# push: in units of the whole height their noise hid its distance, and lengths were too large by half.
_UNITS = 5.0
_LEAST_MM = 1e-6  # unit of a part without any relief


class UNet(nn.Module):
    """U-Net with `FEATURES` outputs for each place of its input; sides are multiples of 2 ** (len(widths) - 1).

    `widths`: channels of each level, finest first.
    """

    def __init__(self, inputs: int, widths: Sequence[int]):
        super().__init__()
        self.encoder = nn.ModuleList(
            _double(before, after) for before, after in zip((inputs, *widths), widths, strict=False)
        )
        self.decoder = nn.ModuleList(
            _double(deep + skip, skip) for deep, skip in zip(widths[1:], widths[:-1], strict=True)
        )
        self.last = nn.Conv2d(widths[0], FEATURES, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for block in reversed(self.decoder):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skips.pop()], dim=1))
        return self.last(x)


class Forces(nn.Sequential):
    """Heads of the authors: from features of a place to the internal and the external force, three components each.

    Their linear layers over points are 1 x 1 convolutions here.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(FEATURES, FEATURES, 1, bias=False),
            nn.BatchNorm2d(FEATURES),
            nn.PReLU(),
            nn.Conv2d(FEATURES, HIDDEN, 1, bias=False),
            nn.BatchNorm2d(HIDDEN),
            nn.PReLU(),
            nn.Conv2d(HIDDEN, 2 * SIDES, 1),
        )


class PushNetwork(nn.Module):
    """Network from a height map's channels to the push in mm that would bring each place back; exported unchanged.

    `widths`: channels of the U-Net's levels, finest first.
    `reach_mm` (Tensor of shape (3,)): what the distance from 127.5 to 255 means in each channel: mm, and mm per pixel
        across and down.
    `usual_mm` (Tensor of shape (3,)): standard deviations of the channels on good parts, in the same units.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.unet = UNet(2 * 3 * SHRINK**2, widths)
        self.forces = Forces()
        self.reach_mm: Tensor
        self.usual_mm: Tensor
        self.register_buffer("reach_mm", torch.ones(3))
        self.register_buffer("usual_mm", torch.ones(3))

    def take_ranges(self, relief: Relief) -> None:
        """Set the heights and slopes that the input's values stand for."""
        self.reach_mm.copy_(torch.tensor([relief.height_mm, relief.slope_mm, relief.slope_mm]))

    def two_forces(self, channels: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (n, h, w, 3) -> the internal and the external force, in units of `unit_of`.

        Both are (2 n, 3, h / 4, w / 4): each map and its cast (`with_cast`), in which a dent is an equal bump.
        """
        mm = self.in_mm(channels)
        largest = _UNITS * self.unit_of(mm)[:, None]
        # In units of the map, so that shapes look equal at any depth; in deviations of good parts, so that noise does.
        seen = torch.cat(
            [mm[:, :1] / largest, mm[:, 1:] * (10 / largest), torch.asinh(mm / self.usual_mm[:, None, None])], dim=1
        )
        forces = self.forces(self.unet(F.pixel_unshuffle(with_cast(seen), SHRINK)))
        return forces[:, :SIDES], forces[:, SIDES:]

    def in_mm(self, channels: Tensor) -> Tensor:
        """Float32 (n, h, w, 3) -> heights in mm, slopes in mm per pixel, (n, 3, h, w)."""
        return ((channels - _MIDDLE) * (self.reach_mm / _MIDDLE)).permute(0, 3, 1, 2)

    def unit_of(self, mm: Tensor) -> Tensor:
        """Compute the unit of forces, a fifth of the largest smoothed height: (n, 3, h, w) -> mm (n, 1, 1)."""
        return F.avg_pool2d(mm[:, :1], 4).abs().amax(dim=(2, 3)).clamp(min=_LEAST_MM)[..., None] / _UNITS

    def forward(self, channels: Tensor) -> Tensor:
        """Float32 (n, h, w, 3) -> the push in mm that brings a place back, (n, h / 4, w / 4): up for a low place."""
        joint = joint_of(*self.two_forces(channels))[:, 2].unflatten(0, (-1, 2))
        return self.unit_of(self.in_mm(channels)) * (joint[:, 1] - joint[:, 0]) / 2


def with_cast(x: Tensor) -> Tensor:
    """Put behind each map its cast, the map with opposite sign: (n, ...) -> (2 n, ...), as x0, -x0, x1, -x1."""
    return torch.stack([x, -x], dim=1).flatten(0, 1)


def _double(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [nn.Conv2d(before, outputs, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
