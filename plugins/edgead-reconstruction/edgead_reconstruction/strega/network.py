"""Networks of StRegA: the authors' compact variational autoencoder, and the graph that gives a slice's residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead_reconstruction.strega.tissue import tissue_map

Sign = Literal["darker", "brighter", "both"]
"""Sign of the differences that count; the authors' code takes pixels darker than their reconstruction."""


class Vae(nn.Module):
    """Compact autoencoder of the authors: convolutions of stride 2 without bias or normalisation; one code per slice.

    `side`: height and width of a slice, multiples of 2 ** len(widths) and at least twice as much.
    `widths`: channels after each halving.
    `latent`: length of the code.
    """

    def __init__(self, side: tuple[int, int], widths: Sequence[int], latent: int):
        super().__init__()
        least = (side[0] >> len(widths), side[1] >> len(widths))
        inner: list[nn.Module] = []
        for before, after in zip((1, *widths), widths, strict=False):
            inner += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.PReLU()]
        self.encoder = nn.Sequential(*inner, nn.Conv2d(widths[-1], 2 * latent, least, bias=False))
        outer: list[nn.Module] = [nn.ConvTranspose2d(latent, widths[-1], least, bias=False), nn.PReLU()]
        for before, after in zip(reversed(widths), (*reversed(widths[:-1]), 1), strict=True):
            outer += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False), nn.PReLU()]
        self.decoder = nn.Sequential(*outer[:-1])  # the last layer has no activation

    def encode(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Slices (n, 1, h, w) -> mean and logarithm of the deviation of their codes, (n, latent, 1, 1) each."""
        mean, log_std = self.encoder(slices).chunk(2, dim=1)
        return mean, log_std

    def decode(self, code: Tensor) -> Tensor:
        """Codes (n, latent, 1, 1) -> slices (n, 1, h, w)."""
        rebuilt: Tensor = self.decoder(code)
        return rebuilt


def parameter_count(side: tuple[int, int], widths: Sequence[int], latent: int) -> int:
    """Return the number of parameters of a `Vae`, without building it."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Vae(side, widths, latent).parameters())


class SliceNetwork(nn.Module):
    """Exported module of StRegA: gives the residual of a slice.

    `segment`: compare classes of tissue instead of intensities.
    `sign`: {"darker", "brighter", "both"}.
    """

    def __init__(self, vae: Vae, *, segment: bool, sign: Sign):
        super().__init__()
        self.vae = vae
        self.segment = segment
        self.sign = sign

    def prepare(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> slices to reconstruct, (n, 1, h, w) in 0..1; 0 is the background."""
        slices = stretch(image.float().mean(dim=3)[:, None])
        return tissue_map(slices) if self.segment else slices

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> residual, float32 (n, h, w), 0 or more."""
        slices = self.prepare(image)
        mean, _ = self.vae.encode(slices)
        return residual(slices, self.vae.decode(mean), self.sign)[:, 0]


def stretch(grey: Tensor) -> Tensor:
    """Scale each slice (n, 1, h, w) to 0..1 by its smallest and largest value; a constant slice becomes 0."""
    low, high = grey.amin(dim=(1, 2, 3), keepdim=True), grey.amax(dim=(1, 2, 3), keepdim=True)
    return (grey - low) / torch.where(high > low, high - low, torch.ones_like(high))


def residual(slices: Tensor, rebuilt: Tensor, sign: Sign) -> Tensor:
    """Return the difference of the given sign, 0 or more, any equal shapes; 0 in the background (slice 0)."""
    difference = rebuilt - slices
    if sign == "both":
        found = difference.abs()
    else:
        found = F.relu(difference if sign == "darker" else -difference)
    return torch.where(slices == 0, torch.zeros_like(found), found)
