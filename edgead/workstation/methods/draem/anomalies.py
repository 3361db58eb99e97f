"""Simulated anomalies of DRAEM (section 3.3): textures, changed at random, blended into good images."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import cv2
import numpy as np

from edgead.workstation.methods.draem.anomaly_textures import Texture
from edgead.workstation.methods.draem.made_pairs import MadePairs
from edgead.workstation.methods.draem.perlin import perlin_mask, rotate

# Shares and ranges that the paper does not state are those of the authors' code.
ANOMALOUS_SHARE, ROTATED_SHARE = 0.5, 0.3
ROTATION_DEG = 45.0  # section 4.1
MADE_SHARE = 0.5  # of AnoGen, see `edgead.workstation.methods.draem.made_pairs`
OPACITY = (0.1, 1.0)  # section 3.3
AUGMENTATIONS = 3

# Kernel of a 3 x 3 mean with the middle counted five times, from which sharpening moves away.
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


class SimulatedBatch(NamedTuple):
    """Images and their corrupted copies, float32 RGB (n, h, w, 3) in 0..1, and the masks, bool (n, h, w)."""

    image: np.ndarray
    corrupted: np.ndarray
    mask: np.ndarray


class Simulator:
    """Generator of training batches from good images.

    `images` (sequence of ndarray of shape (h, w, 3), uint8, RGB): images, read on demand from several threads.
    `texture`: see `edgead.workstation.methods.draem.anomaly_textures`.
    `match_grey`: convert textures on grey images to grey. Ours: a coloured anomaly there would be found by its colour
        alone.
    `made`: made defects, from which half of the samples are drawn.
    """

    def __init__(
        self, images: Sequence[np.ndarray], texture: Texture, *, match_grey: bool, made: MadePairs | None = None
    ):
        self._images = images
        self._made = made
        self._texture = texture
        self._match_grey = match_grey

    def batch(self, size: int, rng: np.random.Generator, executor: Executor) -> SimulatedBatch:
        """Draw a batch; it depends only on the generator, not on the executor's threads."""
        # Every sample has its own generator, so that the order of threads does not matter.
        return SimulatedBatch(*map(np.stack, zip(*executor.map(self.sample, rng.spawn(size)), strict=True)))

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw one image of a `SimulatedBatch`, its corrupted copy and the mask."""
        if self._made is not None and rng.random() < MADE_SHARE:
            return self._made.sample(rng)
        image = self._images[int(rng.integers(len(self._images)))]
        if rng.random() < ROTATED_SHARE:
            # The paper does not state the fill of corners; black ones would teach that black is normal.
            image = rotate(image, rng.uniform(-ROTATION_DEG, ROTATION_DEG), cv2.BORDER_REFLECT_101)
        clean = image.astype(np.float32) / 255
        if rng.random() >= ANOMALOUS_SHARE:
            return clean, clean, np.zeros(image.shape[:2], bool)
        mask = perlin_mask(image.shape[:2], rng)
        texture = augment(self._texture(image.shape[:2], rng), rng)
        if self._match_grey and (image == image[..., :1]).all():
            texture = np.repeat(cv2.cvtColor(texture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
        return clean, blend(clean, texture.astype(np.float32) / 255, mask, rng.uniform(*OPACITY)), mask


def blend(image: np.ndarray, texture: np.ndarray, mask: np.ndarray, opacity: float) -> np.ndarray:
    """Blend a texture into an image: I_a = (1 - M) I + (1 - beta) M I + beta M A (equation 4).

    `image`, `texture` (ndarray of shape (h, w, 3), float32): I and A.
    `mask` (ndarray of shape (h, w), bool): M.
    `opacity`: beta.
    """
    blended = np.float32(1 - opacity) * image + np.float32(opacity) * texture
    return np.where(mask[..., None], blended, image)


def augment(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change a texture, uint8 RGB (h, w, 3), by three different functions of the paper's seven."""
    for pick in rng.choice(len(_FUNCTIONS), AUGMENTATIONS, replace=False):
        texture = _FUNCTIONS[pick](texture, rng)
    return texture


def _posterize(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image & np.uint8(256 - (1 << rng.integers(1, 8)))


def _sharpen(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    factor = rng.uniform(0, 3)  # below 1 it blurs
    return cv2.addWeighted(image, factor, cv2.filter2D(image, -1, _SMOOTH), 1 - factor, 0)


def _solarize(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(image >= rng.integers(32, 129), 255 - image, image)


def _equalize(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)])


def _brighten(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.addWeighted(image, rng.uniform(0.8, 1.2), image, 0, rng.uniform(-30, 30))


def _recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
    hue = (hue + rng.integers(-50, 51)).astype(np.uint8)  # hue wraps around at 256
    saturation = np.clip(saturation + rng.integers(-50, 51), 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB_FULL)


def _stretch_contrast(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    return ((image - low) * (255 / np.maximum(high - low, 1))).astype(np.uint8)


_FUNCTIONS = (_posterize, _sharpen, _solarize, _equalize, _brighten, _recolour, _stretch_contrast)
