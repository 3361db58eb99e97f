"""Losses of LSFA (Tu et al., arXiv 2401.03145): consistency of colour with height, and compactness of each.

Equal to the authors' code except for the points in `tests/fixtures/authors/lsfa.md`, where their script cannot run, or
does something that the paper does not state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead_height.lsfa.adaptor import Adaptors

TEMPERATURE = 1.0
TURNED_WEIGHT, GLOBAL_WEIGHT = 0.05, 0.1
COMPACT_WEIGHT, COMPACT_GLOBAL_WEIGHT = 0.9, 0.4
TURNED_SHARE = 6
"""Divisor for the number of patches that are compared with themselves in the turned image."""
_LEAST, _MOST = 1e-12, 50.0  # bounds of a squared distance


class Bank:
    """Queue of the latest features of good parts, detached, with at most `size` rows.

    `size`: number of rows; the authors keep 60,000 patches, and 100 whole parts.
    """

    def __init__(self, size: int):
        self.size = size
        self.rows: Tensor | None = None

    @property
    def is_full(self) -> bool:
        return self.rows is not None and len(self.rows) >= self.size

    def add(self, rows: Tensor) -> None:
        """Append features (n, c)."""
        rows = rows.detach()
        joined = rows if self.rows is None else torch.cat([self.rows, rows])
        self.rows = joined[-self.size :]


class Banks(NamedTuple):
    """Recent adapted features of patches and whole parts, colour and height, to which the compactness loss compares."""

    colour: Bank
    height: Bank
    colour_parts: Bank
    height_parts: Bank

    @property
    def are_full(self) -> bool:
        """Whether the banks have enough patches for the compactness loss."""
        return self.colour.is_full and self.height.is_full


def contrast(first: Tensor, second: Tensor) -> Tensor:
    """Compute InfoNCE of features (n, c): rows of equal index are positives, all other rows of `second` negatives."""
    logits = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / TEMPERATURE
    return F.cross_entropy(logits, torch.arange(len(first), device=first.device)) * (2 * TEMPERATURE)


def nearest_distances(features: Tensor, rows: Tensor) -> Tensor:
    """Compute the Euclidean distance of each feature (n, c) to its nearest row, (n,), at most the root of 50."""
    squared = features.square().sum(dim=1, keepdim=True) + rows.square().sum(dim=1) - 2 * features @ rows.T
    return squared.clamp(min=_LEAST, max=_MOST).sqrt().min(dim=1).values


class Features(NamedTuple):
    """Features before their adaptors: colour, height, and colour of the turned images, (n, patches, c) each.

    Height is 0 in patches that show no part.
    """

    colour: Tensor
    height: Tensor
    turned: Tensor


def adaptation_loss(
    adaptors: Adaptors, features: Features, banks: Banks, permute: Callable[[int], Tensor] = torch.randperm
) -> Tensor:
    """Compute the loss (a scalar) of adapted features, within and across modalities; add the features to the banks.

    `banks`: banks, to which the adapted features are always appended; compactness counts only when they are full.
    `permute`: function from a number to a random permutation of that length.
    """
    colour, height = adaptors.colour(features.colour), adaptors.height(features.height)
    turned = adaptors.colour_head(adaptors.colour(features.turned)).flatten(0, 1)
    shown = (features.height != 0).all(dim=2)
    places = shown.flatten().nonzero()[:, 0]
    of_colour, of_height = adaptors.colour_head(colour).flatten(0, 1), adaptors.height_head(height).flatten(0, 1)
    loss = (contrast(of_colour[places], of_height[places]) + contrast(of_height[places], of_colour[places])) / 2
    some = places[permute(len(places))[: len(places) // TURNED_SHARE]]
    loss = loss + TURNED_WEIGHT * contrast(of_colour[some], turned[some])

    parts = [torch.stack([one[seen].mean(dim=0) for one, seen in zip(x, shown, strict=True)]) for x in (colour, height)]
    loss = loss + GLOBAL_WEIGHT * contrast(adaptors.colour_head(parts[0]), adaptors.height_head(parts[1]))
    if banks.are_full:
        loss = loss + COMPACT_WEIGHT * compactness(colour, height, shown, parts, banks)
    banks.colour.add(colour.flatten(0, 1))
    banks.height.add(height[shown])
    banks.colour_parts.add(parts[0])
    banks.height_parts.add(parts[1])
    return loss


def compactness(colour: Tensor, height: Tensor, shown: Tensor, parts: list[Tensor], banks: Banks) -> Tensor:
    """Compute the distance of patches and of whole parts to the nearest in the banks, averaged over images."""
    distances = []
    for number, seen in enumerate(shown):
        patches = _mean_nearest(colour[number], banks.colour) + _mean_nearest(height[number][seen], banks.height)
        whole = _mean_nearest(parts[0][number, None], banks.colour_parts)
        whole = whole + _mean_nearest(parts[1][number, None], banks.height_parts)
        distances.append(patches + COMPACT_GLOBAL_WEIGHT * whole)
    return torch.stack(distances).mean()


def _mean_nearest(features: Tensor, bank: Bank) -> Tensor:
    assert bank.rows is not None
    return nearest_distances(features, bank.rows).mean()
