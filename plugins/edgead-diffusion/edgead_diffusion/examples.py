"""Training examples for diffusion: real defects with their masks, and good parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from edgead.errors import SettingsError
from edgead_diffusion.stable_diffusion import middle, to_tensor


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples of one product.

    `defects`: sequence of ndarray of shape (h, w, 3), uint8, BGR.
    `masks` (sequence of ndarray of shape (h, w)): masks, not 0 on the defect.
    `types`: type of each defect, from 0 without a gap.
    `good` (sequence of ndarray of shape (h, w, 3), uint8, BGR): good parts; SeaS uses 60.
    """

    defects: Sequence[np.ndarray]
    masks: Sequence[np.ndarray]
    types: Sequence[int]
    good: Sequence[np.ndarray] = ()

    def __post_init__(self) -> None:
        numbers = len(self.defects), len(self.masks), len(self.types)
        if len(set(numbers)) > 1 or not numbers[0]:
            raise SettingsError(
                f"found {numbers[0]} defects, {numbers[1]} masks and {numbers[2]} types: give one of each"
            )
        if sorted(set(self.types)) != list(range(len(set(self.types)))):
            raise SettingsError(f"found the types {sorted(set(self.types))}: number them from 0 without a gap")

    @property
    def number_of_types(self) -> int:
        return len(set(self.types))

    def need_good_parts(self) -> None:
        """Raise SettingsError if there are no good parts."""
        if not self.good:
            raise SettingsError("SeaS learns from good parts too: give some, 60 in the paper")

    def of_type(self, number: int) -> Examples:
        """Return examples with the defects of one type only, renumbered as type 0; good parts are left out."""
        chosen = [i for i, kind in enumerate(self.types) if kind == number]
        return Examples([self.defects[i] for i in chosen], [self.masks[i] for i in chosen], [0] * len(chosen))

    def batch(self, size: int, side: int, rng: np.random.Generator, *, turn: bool) -> ExampleBatch:
        """Draw defects, each with a good part if there are any; image and mask of an example are turned together."""
        chosen = rng.choice(len(self.defects), size, replace=size > len(self.defects))
        changes = [_Change.draw(rng) if turn else _Change(0, None) for _ in chosen]
        images = [to_tensor(c(self.defects[i]), side) for i, c in zip(chosen, changes, strict=True)]
        masks = [_mask(c(self.masks[i]), side) for i, c in zip(chosen, changes, strict=True)]
        if self.good:
            good = rng.integers(0, len(self.good), size)
            images += [to_tensor(c(self.good[i]), side) for i, c in zip(good, changes, strict=True)]
        return ExampleBatch(torch.stack(images), torch.stack(masks), [self.types[i] for i in chosen])


@dataclass(frozen=True, slots=True)
class ExampleBatch:
    """Batch of images in -1..1, defects first, (n, 3, side, side), and masks of the defects, (m, 1, side, side)."""

    images: Tensor
    masks: Tensor
    types: list[int]


@dataclass(frozen=True, slots=True)
class _Change:
    """Augmentation: rotation by a multiple of 90 degrees, then a flip (0 upside down, 1 left to right) or none."""

    quarters: int
    flip: int | None

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Change:
        return cls(int(rng.integers(4)), (None, 0, 1)[rng.integers(3)])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        turned = np.ascontiguousarray(np.rot90(image, self.quarters))
        return turned if self.flip is None else cv2.flip(turned, self.flip)


def _mask(mask: np.ndarray, side: int) -> Tensor:
    return torch.from_numpy(middle((mask > 0).astype(np.float32), side))[None]
