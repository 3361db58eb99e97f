"""Views of a crop: random views that the network learns to treat as equal, and a fixed view for predictions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision.transforms.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import ColorJitter, GaussianBlur

from edgead_foundation.anomaly_ncd.crops import Crop
from edgead_foundation.anomaly_ncd.encoder import MEAN, STD

CROPPED = 0.875
"""Side of a view, as a share of the side of the image that it is cut from."""

Transform = Callable[[Image.Image], Image.Image]
_jitter = ColorJitter(brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.8))


class Views:
    """Maker of views of one size.

    `side`: side of a view in pixels.
    """

    def __init__(self, side: int):
        self.side = side
        self.whole = int(side / CROPPED)

    def enlarge(self, crop: Crop) -> tuple[Image.Image, Image.Image]:
        """Resize image (RGB) and mask (grey) of a crop to the size from which views are cut."""
        image, mask = Image.fromarray(crop.image), Image.fromarray(crop.mask)
        return F.resize(image, self.whole), F.resize(mask, self.whole)

    def judged(self, image: Image.Image, mask: Image.Image) -> tuple[Tensor, Tensor]:
        """Make the fixed view, the middle: normalised (3, side, side), and the mask in 0..1, (1, side, side)."""
        margin = (self.whole - self.side) // 2
        image, mask = (F.crop(x, margin, margin, self.side, self.side) for x in (image, mask))
        return _normalise(image), F.to_tensor(mask)

    def trained(self, image: Image.Image, mask: Image.Image) -> tuple[Tensor, Tensor]:
        """Make a random view by torch's generator, with the shapes of `judged`."""
        for change in self._places():
            image, mask = change(image), change(mask)
        image = F.adjust_sharpness(_jitter(image), 0.2 + 1.8 * _uniform())
        image = GaussianBlur(9 + 4 * _below(7))(image)
        return _normalise(F.posterize(image, 5 + _below(4))), F.to_tensor(mask)

    def _places(self) -> list[Transform]:
        """List the common transforms of image and mask: random crop, mirroring, rotation by multiples of 90 degrees."""
        top, left = (int(_uniform() * (self.whole - self.side)) for _ in range(2))
        changes: list[Transform] = [lambda x: F.crop(x, top, left, self.side, self.side)]
        changes += [F.hflip] * (_uniform() < 0.5) + [F.vflip] * (_uniform() < 0.5)
        angle = 90 * _below(4)
        return [*changes, lambda x: F.rotate(x, angle)]


def _normalise(image: Image.Image) -> Tensor:
    return F.normalize(F.to_tensor(image), MEAN, STD)


def _uniform() -> float:
    return float(torch.rand(()))


def _below(end: int) -> int:
    return int(torch.randint(end, ()))
