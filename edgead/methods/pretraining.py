"""Images of anything but the product: for distilling a teacher, and for the pretraining penalty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from edgead.errors import SettingsError
from edgead.images.files import is_image_path, list_images, load_image
from edgead.methods.textures import draw_texture

SMALLEST_CROP = 0.5


def find_photographs(places: Sequence[Path]) -> list[Path]:
    """List the images of folders, with all folders below them, and images named themselves, in a fixed order.

    Raises
    ------
    ImageError
        A place that does not exist, or a folder without images.
    """
    found: list[Path] = []
    for place in places:
        below = sorted(path for path in place.rglob("*") if is_image_path(path) and path.is_file())
        # list_images shows what is wrong with a folder that holds nothing.
        found += [place] if place.is_file() else below or list_images(place)
    return found


class PretrainingImages:
    """Images drawn one by one: crops of photographs, and procedural textures.

    Parameters
    ----------
    paths : sequence of Path
        Photographs; without any, all images are textures.
    texture_share : float
        Share of procedural textures among the images.
    """

    def __init__(self, paths: Sequence[Path], texture_share: float):
        if not 0 <= texture_share <= 1:
            raise SettingsError(f"texture_share {texture_share}: must lie between 0 and 1")
        self.paths = list(paths)
        self.texture_share = texture_share if self.paths else 1.0

    def draw(self, rng: np.random.Generator, size_px: int, *, grey_rate: float, zoom: int = 1) -> np.ndarray:
        """Draw an image, uint8 RGB (size_px, size_px, 3); grey with the probability `grey_rate`.

        A photograph gives a random square of half to all of its shorter side, mirrored or not, and of that the middle
        `zoom`-th. EfficientAD takes each of ImageNet's images whole; here there may be only a few hundred, large
        ones.
        """
        if rng.random() < self.texture_share:
            image = draw_texture(rng, size_px)
        else:
            image = self._crop(load_image(self.paths[int(rng.integers(len(self.paths)))]), rng, size_px, zoom)
        if rng.random() < grey_rate:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return image

    def _crop(self, image: np.ndarray, rng: np.random.Generator, size_px: int, zoom: int) -> np.ndarray:
        height, width = image.shape[:2]
        side = max(1, round(min(height, width) * rng.uniform(SMALLEST_CROP, 1.0)))
        y, x = (int(rng.integers(length - side + 1)) for length in (height, width))
        part = max(1, side // zoom)
        y, x = y + (side - part) // 2, x + (side - part) // 2
        step = -1 if rng.random() < 0.5 else 1
        crop = np.ascontiguousarray(image[y : y + part, x : x + part][:, ::step])
        rule = cv2.INTER_AREA if part > size_px else cv2.INTER_LINEAR
        return cv2.cvtColor(cv2.resize(crop, (size_px, size_px), interpolation=rule), cv2.COLOR_BGR2RGB)


def to_batch(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 RGB images (h, w, 3) -> float32 (n, 3, h, w) in 0..255."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
