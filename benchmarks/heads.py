"""Volumes of a drawn head: ellipsoids as of Shepp and Logan's phantom, each a little other, with or without a lesion.

The tissue varies smoothly; a scan has its own gain, an uneven field and noise, and in some a slice is disturbed. Values
are of 16 bits without a unit, as those of magnetic resonance are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

# Centre (x, y, z) and half axes, in parts of the volume's sides, and the tissue; later ones cover earlier ones. In the
# plane they are those of plugins/edgead-reconstruction/tests/phantom.py.
FLUID, GREY, WHITE = 1, 2, 3
PARTS = (
    ((0.5, 0.5, 0.5), (0.36, 0.44, 0.62), FLUID),
    ((0.5, 0.5, 0.5), (0.33, 0.41, 0.58), GREY),
    ((0.5, 0.49, 0.5), (0.27, 0.34, 0.52), WHITE),
    ((0.41, 0.46, 0.5), (0.04, 0.13, 0.22), FLUID),
    ((0.59, 0.46, 0.5), (0.04, 0.13, 0.22), FLUID),
    ((0.5, 0.68, 0.4), (0.07, 0.05, 0.2), GREY),
)
INTENSITIES = np.array([0, 1400, 2600, 4000], np.float32)
NOISE, FIELD, VARIATION, GAIN = 90.0, 0.15, 0.05, 0.15
DISTURBED_SHARE, DISTURBED = 0.25, 3.0
"""Share of the scans in which one slice has so many times the noise."""


@dataclass(frozen=True, slots=True)
class Head:
    """A scan, uint16 (slices, H, W), and its lesion, bool of that shape."""

    values: np.ndarray
    lesion: np.ndarray


def draw_head(rng: np.random.Generator, *, lesion: bool, side: int = 64, slices: int = 16) -> Head:
    """Draw one scan; a lesion is as bright as grey matter or as fluid, and lies in the white."""
    tissue = _tissue((slices, side, side), rng)
    mask = np.zeros(tissue.shape, bool)
    if lesion:
        mask = _lesion(tissue, rng)
        tissue = np.where(mask, rng.choice([FLUID, GREY]), tissue)
    values = INTENSITIES[tissue] * (1 + VARIATION * _smooth(tissue.shape, side / 8, rng))
    values = np.stack([cv2.GaussianBlur(one, (0, 0), 0.6) for one in values.astype(np.float32)])
    values *= np.exp(FIELD * _smooth(tissue.shape, side / 2, rng)) * rng.uniform(1 - GAIN, 1 + GAIN)
    noise = rng.normal(0, NOISE, values.shape)
    if rng.uniform() < DISTURBED_SHARE:
        noise[rng.integers(slices // 4, 3 * slices // 4)] *= DISTURBED
    # Around the head there is air; a scanner shows it as nothing once the skull is taken off.
    return Head(np.where(tissue > 0, np.clip(values + noise, 1, 65535), 0).astype(np.uint16), mask & (tissue > 0))


def write_heads(folder: Path, *, learnt: int, good: int, lesioned: int, seed: int) -> None:
    """Write volumes in MVTec layout, as TIFF with several pages: train/good, test/good, test/lesion and its masks."""
    for part, count, has_lesion in (
        ("train/good", learnt, False),
        ("test/good", good, False),
        ("test/lesion", lesioned, True),
    ):
        for number in range(count):
            rng = np.random.default_rng([seed, *part.encode(), number])
            head = draw_head(rng, lesion=has_lesion)
            write_stack(folder / part / f"{number:03d}.tif", head.values)
            if has_lesion:
                write_stack(folder / "ground_truth/lesion" / f"{number:03d}.tif", head.lesion.astype(np.uint8))


def write_stack(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwritemulti(str(path), list(values)):
        raise OSError(f"{path} cannot be written")


def _tissue(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    z, y, x = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    turn, scale = np.deg2rad(rng.uniform(-4, 4)), rng.uniform(0.95, 1.05)
    across = (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn)
    down = (y - 0.5) * np.cos(turn) - (x - 0.5) * np.sin(turn)
    found = np.zeros(shape, np.int8)
    for centre, axes, tissue in PARTS:
        moved = np.array(centre) - 0.5 + rng.uniform(-0.008, 0.008, 3)
        half = (np.array(axes) + rng.uniform(-0.008, 0.008, 3)) * scale
        inside = sum(((v - m) / h) ** 2 for v, m, h in zip((across, down, z - 0.5), moved, half, strict=True))
        found[inside <= 1] = tissue
    return found


def _lesion(tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An ellipsoid around a place in the white matter of the inner slices."""
    places = np.argwhere(tissue == WHITE)
    count, side, _ = tissue.shape
    inner = places[(places[:, 0] > count // 5) & (places[:, 0] < count - count // 5)]
    at = inner[rng.integers(len(inner))]
    half = rng.uniform(1.2, 3.0), *(side * rng.uniform(0.035, 0.07, 2))
    offsets = np.moveaxis(np.indices(tissue.shape), 0, -1) - at
    return (((offsets / half) ** 2).sum(axis=-1) <= 1) & (tissue == WHITE)


def _smooth(shape: tuple[int, int, int], sigma_px: float, rng: np.random.Generator) -> np.ndarray:
    """A random field of mean 0 and deviation 1 that varies over so many pixels, alike in neighbouring slices."""
    few = max(2, round(shape[0] / 6))
    planes = np.stack([cv2.GaussianBlur(rng.normal(size=shape[1:]), (0, 0), sigma_px) for _ in range(few)])
    flat = cv2.resize(planes.reshape(few, -1), (shape[1] * shape[2], shape[0]), interpolation=cv2.INTER_CUBIC)
    field = flat.reshape(shape)
    return np.asarray((field - field.mean()) / field.std(), np.float32)
