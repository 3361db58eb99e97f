"""Textures to make anomalies of: a folder of pictures, crops of the good images, and seeded procedural ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from edgead.dataset import DatasetError
from edgead.images import is_image_path, load_image
from edgead.train.perlin import perlin_noise

Texture = Callable[[tuple[int, int], np.random.Generator], np.ndarray]
"""Called with (height, width) and a generator; gives a texture, uint8 RGB (h, w, 3)."""


def folder_textures(folder: Path) -> Texture:
    """Pictures of a folder and the folders below it, each resized whole, as DRAEM takes those of DTD.

    Raises
    ------
    DatasetError
        If there is none.
    """
    paths = sorted(path for path in folder.rglob("*") if is_image_path(path) and path.is_file())
    if not paths:
        raise DatasetError(f"anomaly_source {folder} holds no images: name a folder of textures, or leave it out")

    def texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        image = load_image(paths[rng.integers(len(paths))])
        return cv2.cvtColor(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)

    return texture


def built_in_textures(images: Sequence[np.ndarray]) -> Texture:
    """What needs no other data (ours, not the paper's): one half procedural, the other crops of the good images.

    A crop is enlarged, turned and mirrored at random: the right material at the wrong scale, place or angle.
    """

    def texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        if rng.random() < 0.5:
            return procedural_texture(shape, rng)
        return _crop(images[int(rng.integers(len(images)))], shape, rng)

    return texture


def procedural_texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw clouds, stripes, checks or grain in three random colours; uint8 RGB (h, w, 3)."""
    field = _FIELDS[rng.integers(len(_FIELDS))](shape, rng)
    colours = rng.uniform(0, 255, (3, 3))
    channels = [np.interp(field, (-1, 0, 1), colours[:, channel]) for channel in range(3)]
    return np.dstack(channels).astype(np.uint8)


def _crop(image: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    height, width = (max(1, int(side * rng.uniform(0.2, 1.0))) for side in image.shape[:2])
    y, x = rng.integers(image.shape[0] - height + 1), rng.integers(image.shape[1] - width + 1)
    piece = np.rot90(image[y : y + height, x : x + width], int(rng.integers(4)))
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return cv2.resize(np.ascontiguousarray(piece), shape[::-1], interpolation=cv2.INTER_LINEAR)


def _clouds(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Three octaves of Perlin noise."""
    rows, columns = (int(n) for n in rng.integers(1, 9, 2))
    octaves = [perlin_noise(shape, (rows << n, columns << n), rng) / 2**n for n in range(3)]
    return np.sum(octaves, axis=0)


def _stripes(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Waves in one direction, bent by noise."""
    return np.sin(_waves(shape, rng) + rng.uniform(0, 4) * perlin_noise(shape, (4, 4), rng))


def _checks(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    return np.sign(np.sin(_waves(shape, rng)) * np.sin(_waves(shape, rng)))


def _grain(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """White noise, blurred a little or more."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), rng.uniform(0.3, 3))
    return noise / (2 * noise.std())


def _waves(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The phase of waves of 2 to 64 along the image's width, in a random direction."""
    direction, count = rng.uniform(0, 2 * np.pi), 2 ** rng.uniform(1, 6)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return (np.cos(direction) * x + np.sin(direction) * y) * (2 * np.pi * count / shape[1])


_FIELDS = (_clouds, _stripes, _checks, _grain)
