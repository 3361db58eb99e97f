"""Textures for simulated anomalies: images of a folder, or drawn textures and crops of the good images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from edgead.dataset.folders import DatasetError
from edgead.images.files import is_image_path, load_image
from edgead.workstation.trainer.pretraining_images import draw_texture

Texture = Callable[[tuple[int, int], np.random.Generator], np.ndarray]
"""Function from (height, width) and a random generator to a texture, uint8 RGB (h, w, 3)."""


def folder_textures(folder: Path) -> Texture:
    """Make textures from the images of a folder and its subfolders, each resized whole, as DRAEM does with DTD.

    Raises DatasetError: the folder has no image.
    """
    paths = sorted(path for path in folder.rglob("*") if is_image_path(path) and path.is_file())
    if not paths:
        raise DatasetError(f"anomaly_source {folder} holds no images: name a folder of textures, or leave it out")

    def texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        image = load_image(paths[int(rng.integers(len(paths)))])
        return cv2.cvtColor(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)

    return texture


def built_in_textures(images: Sequence[np.ndarray]) -> Texture:
    """Make textures without other data (ours, not the paper's): half drawn ones, half crops of the good images.

    A crop is enlarged, rotated and mirrored at random: the right material at a wrong scale, place or angle.
    """

    def texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        if rng.random() < 0.5:
            return draw_texture(rng, max(shape))[: shape[0], : shape[1]]
        return _crop(images[int(rng.integers(len(images)))], shape, rng)

    return texture


def _crop(image: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    height, width = (max(1, int(side * rng.uniform(0.2, 1.0))) for side in image.shape[:2])
    y, x = rng.integers(image.shape[0] - height + 1), rng.integers(image.shape[1] - width + 1)
    piece = np.rot90(image[y : y + height, x : x + width], int(rng.integers(4)))
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return cv2.resize(np.ascontiguousarray(piece), shape[::-1], interpolation=cv2.INTER_LINEAR)
