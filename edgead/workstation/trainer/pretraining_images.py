"""Images of anything but the product: for distilling a teacher, and for the pretraining penalty."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from edgead.artifact.manifest import Preprocessing
from edgead.errors import SettingsError
from edgead.images.files import ImageError, is_image_path, list_images, load_image
from edgead.preprocess import preprocess
from edgead.workstation.trainer.device import CPU
from edgead.workstation.trainer.procedural_textures import draw_texture

SMALLEST_CROP = 0.5

MAX_DAMAGED = 20
"""Photographs in a row that cannot be read before the folder is given up."""

logger = logging.getLogger(__name__)


def find_photographs(places: Sequence[Path]) -> list[Path]:
    """List the images of folders, with all folders below them, and images named themselves, in a fixed order.

    ImageNet's layout, a folder for each class, is one such; its 1.3 million files are listed without a look at each.

    Raises
    ------
    ImageError
        A place that does not exist, or a folder without images.
    """
    found: list[Path] = []
    for place in places:
        files = (Path(folder, name) for folder, _, names in os.walk(place) for name in names)
        # By parts, which is the order of paths and twice as fast to compare.
        below = sorted(filter(is_image_path, files), key=lambda path: path.parts)
        # list_images shows what is wrong with a folder that holds nothing.
        found += [place] if place.is_file() else below or list_images(place)
    return found


class PretrainingImages:
    """Images drawn one by one: photographs or crops of them, and procedural textures.

    Several threads may draw at once. A photograph that cannot be read is left out with a warning, and another is drawn.

    Parameters
    ----------
    paths : sequence of Path
        Photographs; without any, all images are textures.
    texture_share : float
        Share of procedural textures among the images.
    whole : bool
        Take photographs whole, stretched to a square, as EfficientAD does with ImageNet's. Otherwise each gives a
        random square of half to all of its shorter side, mirrored or not: for a few hundred large ones.
    """

    def __init__(self, paths: Sequence[Path], texture_share: float, *, whole: bool = False):
        if not 0 <= texture_share <= 1:
            raise SettingsError(f"texture_share {texture_share}: must lie between 0 and 1")
        self.paths = list(paths)
        self.texture_share = texture_share if self.paths else 1.0
        self.whole = whole
        self._damaged: set[Path] = set()

    def draw(self, rng: np.random.Generator, size_px: int, *, grey_rate: float, zoom: int = 1) -> np.ndarray:
        """Draw an image, uint8 RGB (size_px, size_px, 3); grey with the probability `grey_rate`.

        Of a photograph, or its random square, the middle `zoom`-th is taken.

        Raises
        ------
        ImageError
            Many photographs in a row cannot be read.
        """
        if rng.random() < self.texture_share:
            image = draw_texture(rng, size_px)
        else:
            image = self._crop(self._photograph(rng), rng, size_px, zoom)
        if rng.random() < grey_rate:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return image

    def _photograph(self, rng: np.random.Generator) -> np.ndarray:
        problem: ImageError | None = None
        for _ in range(MAX_DAMAGED):
            path = self.paths[int(rng.integers(len(self.paths)))]
            try:
                return load_image(path)
            except ImageError as error:
                if path not in self._damaged:
                    logger.warning("left out: %s", error)
                self._damaged.add(path)
                problem = error
        raise ImageError(f"{MAX_DAMAGED} photographs in a row cannot be read, the last: {problem}; look at the folder")

    def _crop(self, image: np.ndarray, rng: np.random.Generator, size_px: int, zoom: int) -> np.ndarray:
        rows, columns = image.shape[:2]
        if not self.whole:
            side = max(1, round(min(rows, columns) * rng.uniform(SMALLEST_CROP, 1.0)))
            y, x = (int(rng.integers(length - side + 1)) for length in (rows, columns))
            step = -1 if rng.random() < 0.5 else 1
            image, rows, columns = image[y : y + side, x : x + side][:, ::step], side, side
        # Cut before it is resized, which gives the same and is less work.
        height, width = max(1, rows // zoom), max(1, columns // zoom)
        y, x = (rows - height) // 2, (columns - width) // 2
        middle = np.ascontiguousarray(image[y : y + height, x : x + width])
        return preprocess(middle, Preprocessing(image_size=(size_px, size_px)))


def to_batch(images: Sequence[np.ndarray], device: torch.device = CPU) -> Tensor:
    """uint8 RGB images (h, w, 3) -> float32 (n, 3, h, w) in 0..255, on a device without waiting for it."""
    batch = torch.from_numpy(np.stack(images))
    if device.type == "cuda":
        batch = batch.pin_memory().to(device, non_blocking=True)
    return batch.permute(0, 3, 1, 2).float()
