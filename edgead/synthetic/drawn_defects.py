"""Defects drawn on images of good parts, for use without real defects."""

from __future__ import annotations

import cv2
import numpy as np


def draw_defect(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one defect of a random kind at a random place; uint8 BGR in and out."""
    return draw_kind(image, str(rng.choice(np.array(KINDS, dtype=object))), rng)


def draw_kind(image: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw one defect of one of `KINDS`, as `draw_defect`."""
    return np.clip(_MAKERS[kind](image.astype(np.float32), rng), 0, 255).astype(np.uint8)


def _hole(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a small dark ellipse."""
    radius = rng.uniform(3, 8)
    axes = (int(radius), int(radius * rng.uniform(0.6, 2.0)))
    mask = np.zeros(image.shape[:2], np.float32)
    cv2.ellipse(mask, _place(image, rng), axes, rng.uniform(0, 180), 0, 360, 1.0, -1, cv2.LINE_AA)
    return image * (1 - rng.uniform(0.25, 0.6) * mask[..., None])


def _crack(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a thin, dark, wandering line."""
    steps = rng.integers(6, 16)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.4, steps))
    walk = np.cumsum(8 * np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
    path = (np.array(_place(image, rng)) + walk).astype(np.int32)
    mask = np.zeros(image.shape[:2], np.float32)
    cv2.polylines(mask, [path], False, 1.0, int(rng.integers(1, 3)), cv2.LINE_AA)
    return image * (1 - rng.uniform(0.25, 0.6) * mask[..., None])


def _tone(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a region, a tenth to a third of the image wide, lighter or darker."""
    height, width = image.shape[:2]
    distance = _distance(image, rng, height * rng.uniform(0.1, 0.3), width * rng.uniform(0.1, 0.25))
    grain = max(2, min(height, width) // int(rng.integers(2, 5)))
    inside = (distance + 0.3 * _noise(image, rng, grain) < 1).astype(np.float32)
    mask = cv2.GaussianBlur(inside, (0, 0), 1.5)
    return image * (1 + rng.choice([-1, 1]) * rng.uniform(0.15, 0.35) * mask[..., None])


def _scar(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Copy a piece of the image, rotated and brightened, to another place."""
    height, width = image.shape[:2]
    rows, columns = int(rng.integers(10, max(11, height // 5))), int(rng.integers(6, max(7, width // 6)))
    y, x = rng.integers(0, height - rows), rng.integers(0, width - columns)
    piece = np.rot90(image[y : y + rows, x : x + columns]) * rng.uniform(0.7, 1.3)
    y, x = rng.integers(0, max(1, height - columns)), rng.integers(0, max(1, width - rows))
    result = image.copy()
    target = result[y : y + columns, x : x + rows]
    target[:] = piece[: target.shape[0], : target.shape[1]]
    return result


def _break(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a polygon with another, rougher surface."""
    height, width = image.shape[:2]
    corners = np.array(_place(image, rng)) + rng.uniform(-1, 1, (7, 2)) * [0.12 * width, 0.08 * height]
    mask = np.zeros(image.shape[:2], np.float32)
    cv2.fillPoly(mask, [cv2.convexHull(corners.astype(np.int32))], 1.0, cv2.LINE_AA)
    surface = image.mean() * rng.uniform(0.4, 1.5) + 8 * _noise(image, rng, 6)[..., None]
    return image * (1 - mask[..., None]) + surface * mask[..., None]


def _fray(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Roughen the texture in a spot."""
    height, width = image.shape[:2]
    fade = np.exp(-_distance(image, rng, 0.08 * height, 0.1 * width))
    return image + (fade * _noise(image, rng, int(rng.integers(2, 5))))[..., None] * rng.uniform(12, 30)


def _place(image: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    height, width = image.shape[:2]
    return int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.1, 0.9) * height)


def _distance(image: np.ndarray, rng: np.random.Generator, radius_y: float, radius_x: float) -> np.ndarray:
    """Compute the squared distance from a random place, in units of the two radii."""
    x, y = _place(image, rng)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return ((rows - y) / radius_y) ** 2 + ((columns - x) / radius_x) ** 2


def _noise(image: np.ndarray, rng: np.random.Generator, grain_px: int) -> np.ndarray:
    height, width = image.shape[:2]
    coarse = rng.standard_normal((max(2, height // grain_px + 2), max(2, width // grain_px + 2))).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


_MAKERS = {"hole": _hole, "crack": _crack, "tone": _tone, "scar": _scar, "break": _break, "fray": _fray}
KINDS = tuple(_MAKERS)
