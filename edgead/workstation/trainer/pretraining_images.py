"""Images of anything but the product, for the pretraining penalty.

Seeded procedural textures, which need no source and no licence, replace missing photographs.
"""

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
from edgead.artifact.preprocess import preprocess
from edgead.images.files import ImageError, is_image_path, list_images, load_image
from edgead.workstation.trainer.device import CPU

logger = logging.getLogger(__name__)

MAX_DAMAGED = 20
"""Number of unreadable photographs in a row after which reading the folder fails."""


def draw_texture(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Draw a random texture.

    It is a blend of one to three of clouds of noise, grain, weaves, tiles, scratches and blobs, coloured and
    lit.

    `rng`: generator, whose state determines the image.
    `size_px`: side of the square image.
    Returns ndarray of shape (size_px, size_px, 3), uint8, RGB.
    """
    height = np.zeros((size_px, size_px), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        layer = LAYERS[int(rng.integers(len(LAYERS)))](rng, size_px)
        height += layer * np.float32(rng.uniform(0.3, 1.0) / max(float(layer.std()), 1e-3))
    height = (height - height.mean()) / max(float(height.std()), 1e-3)
    image = _colour(rng, height) * _light(rng, height)[..., None]
    image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.choice([0.0, 2.0, 6.0]))
    return np.clip(image, 0, 255).astype(np.uint8)


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw noise of several octaves whose amplitude falls with the frequency by a random power."""
    result = np.zeros((size, size), np.float32)
    fall = rng.uniform(0.4, 1.1)
    cells = int(rng.integers(2, 9))
    stretch = float(rng.choice([1, 1, 4, 12]))
    amplitude = 1.0
    while cells < size:
        shape = (max(2, int(cells / stretch)), cells)
        noise = rng.standard_normal(shape, np.float32)
        result += amplitude * cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
        cells *= 2
        amplitude *= 0.5**fall
    return result if rng.random() < 0.5 else result.T


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw fine noise of one grain size."""
    noise = rng.standard_normal((size, size), np.float32)
    return cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(0.6, 4)), sigmaY=float(rng.uniform(0.6, 4)))


def _weave(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw two crossed waves, slightly bent."""
    x, y = _bent_grid(rng, size)
    angle = rng.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    period = rng.uniform(5, 60, 2)
    waves = np.sin(2 * np.pi * along / period[0]), np.sin(2 * np.pi * across / period[1])
    mixed = waves[0] * waves[1] if rng.random() < 0.5 else np.maximum(*waves)
    return (np.sign(mixed) if rng.random() < 0.3 else mixed).astype(np.float32)


def _tiles(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw rectangles with joints, every second row shifted, each with a random height."""
    x, y = _bent_grid(rng, size)
    width, height = rng.uniform(20, 160, 2)
    row = np.floor(y / height)
    shifted = x / width + rng.choice([0, 0.5]) * row
    level = rng.standard_normal(997, np.float32)[(row * 131 + np.floor(shifted)).astype(int) % 997]
    joint = np.minimum(np.abs(shifted % 1 - 0.5) * width, np.abs(y / height % 1 - 0.5) * height)
    edge = np.minimum(width, height) / 2 - rng.uniform(1, 5)
    return (level * rng.uniform(0, 1) - 2 * (joint > edge)).astype(np.float32)


def _scratches(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw lines with one main direction."""
    result = np.zeros((size, size), np.float32)
    main, spread = rng.uniform(0, np.pi), rng.choice([0.02, 0.2, 1.5])
    for _ in range(int(rng.integers(10, 200))):
        start = rng.uniform(0, size, 2)
        angle, length = main + spread * rng.standard_normal(), rng.uniform(10, size)
        stop = start + length * np.array([np.cos(angle), np.sin(angle)])
        value = float(rng.standard_normal())
        ends = [tuple(int(v) for v in point) for point in (start, stop)]
        cv2.line(result, ends[0], ends[1], value, int(rng.integers(1, 3)), cv2.LINE_AA)
    return cv2.GaussianBlur(result, (0, 0), 0.7)


def _blobs(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw ellipses, from grains to spots."""
    result = np.zeros((size, size), np.float32)
    largest = rng.uniform(4, 60)
    for _ in range(int(rng.integers(10, 250))):
        centre = tuple(int(v) for v in rng.uniform(0, size, 2))
        axes = tuple(max(1, int(v)) for v in rng.uniform(1, largest, 2))
        cv2.ellipse(
            result, centre, axes, float(rng.uniform(0, 180)), 0, 360, float(rng.standard_normal()), -1, cv2.LINE_AA
        )
    return result


LAYERS = (_clouds, _clouds, _grain, _weave, _tiles, _scratches, _blobs)


def _bent_grid(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:size, :size].astype(np.float32)
    bend = float(rng.choice([0, 2, 12]))
    noise = [
        cv2.resize(rng.standard_normal((6, 6), np.float32), (size, size), interpolation=cv2.INTER_CUBIC) for _ in "xy"
    ]
    return x + bend * noise[0], y + bend * noise[1]


def _colour(rng: np.random.Generator, height: np.ndarray) -> np.ndarray:
    """Colour a height map by a scale of two to four random colours, or of greys."""
    stops = rng.uniform(0, 255, (int(rng.integers(2, 5)), 3))
    if rng.random() < 0.3:
        stops = np.repeat(stops[:, :1], 3, axis=1)
    where = np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(stops)), np.arange(len(stops)))
    scale = np.stack([np.interp(where, np.arange(len(stops)), stops[:, i]) for i in range(3)], axis=1)
    index = np.clip(128 + height * rng.uniform(25, 70), 0, 255).astype(np.uint8)
    return scale.astype(np.float32)[index]


def _light(rng: np.random.Generator, height: np.ndarray) -> np.ndarray:
    """Compute light from one side on the height as a relief, a factor around 1."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.choice([0.0, 0.2, 0.6])
    down, right = np.gradient(height)
    slope = (down * np.sin(angle) + right * np.cos(angle)).astype(np.float32)
    return np.clip(1 + np.float32(strength) * slope, 0.3, 1.7)


def find_photographs(folder: Path) -> list[Path]:
    """List the images of a folder, with all folders below it, in a fixed order.

    This includes ImageNet's layout, a folder for each class; its 1.3 million files are listed without opening them.

    Raises ImageError: a folder that does not exist, or holds no images.
    """
    files = (Path(below, name) for below, _, names in os.walk(folder) for name in names)
    # By parts, which is the order of paths and twice as fast to compare.
    # list_images shows what is wrong with a folder that holds nothing.
    return sorted(filter(is_image_path, files), key=lambda path: path.parts) or list_images(folder)


class PretrainingImages:
    """Images drawn one by one: photographs, stretched to a square as the paper has them, or procedural textures.

    Several threads may draw at once. An unreadable photograph is skipped with a warning, and another one drawn.

    `paths`: photographs; without any, all images are textures.
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)
        self._damaged: set[Path] = set()

    def draw(self, rng: np.random.Generator, size_px: int, *, grey_rate: float) -> np.ndarray:
        """Draw an image, uint8 RGB (size_px, size_px, 3); grey with the probability `grey_rate`.

        Of a photograph, the middle half is taken (algorithm 1 of EfficientAD).

        Raises ImageError: many photographs in a row cannot be read.
        """
        rng.random()  # chose between photographs and textures once: a seed still draws the same images
        image = _middle(self._photograph(rng), size_px) if self.paths else draw_texture(rng, size_px)
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


def _middle(image: np.ndarray, size_px: int) -> np.ndarray:
    """Stretch the middle half of an image to a square: cut first, which gives the same and is less work."""
    rows, columns = image.shape[:2]
    height, width = max(1, rows // 2), max(1, columns // 2)
    y, x = (rows - height) // 2, (columns - width) // 2
    middle = np.ascontiguousarray(image[y : y + height, x : x + width])
    return preprocess(middle, Preprocessing(image_size=(size_px, size_px)))


def to_batch(images: Sequence[np.ndarray], device: torch.device = CPU) -> Tensor:
    """Copy uint8 RGB images (h, w, 3) to a device as float32 (n, 3, h, w) in 0..255, without waiting for it."""
    batch = torch.from_numpy(np.stack(images))
    if device.type == "cuda":
        batch = batch.pin_memory().to(device, non_blocking=True)
    return batch.permute(0, 3, 1, 2).float()
