"""Random pushes, which displace a patch of a good surface so that a network can learn to measure the displacement.

`crop_patches` and `displacements` are DA-Gen of MC4AD (Liang et al., arXiv 2505.05901), for points with normals; random
numbers are arguments. Height maps are edgead's addition: points are pixels, normals point at the camera, and
`smooth_push` makes dents and bumps, as DA-Gen only tilts a patch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

PARTS, MOVED = 64, 32
"""Number of patches that a surface is cut into, and number of first patches of which one moves."""
_RADII = (0.05, 0.22)  # range of radii of a smooth push, as shares of the image's side
_ASPECT = 2.0
_STEEPNESS = (1.0, 3.0)


class Patch(NamedTuple):
    """Patch: mask of its points, bool (n,), and its middle point, (d,)."""

    taken: np.ndarray
    centre: np.ndarray


def crop_patches(points: np.ndarray, parts: int, count: int, draw: Callable[[int], int]) -> list[Patch]:
    """Partition points into patches, each the remaining points nearest to a random point; return the first patches.

    `points`: ndarray of shape (n, d).
    `parts`: number of patches in all; each has n // parts points that no other patch has.
    `count`: number of patches to return.
    `draw`: function from n to a random integer from 0 to n - 1.
    """
    left = np.arange(len(points))
    patches = []
    for _ in range(count):
        centre = points[left[draw(len(left))]]
        squared = np.square(points[left] - centre).sum(axis=1)
        nearest = np.argpartition(squared, len(points) // parts - 1)[: len(points) // parts]
        taken = np.zeros(len(points), bool)
        taken[left[nearest]] = True
        patches.append(Patch(taken, centre))
        left = np.delete(left, nearest)
    return patches


def displacements(
    points: np.ndarray,
    normals: np.ndarray,
    centre: np.ndarray,
    *,
    axis: np.ndarray,
    sign: float,
    distance: float,
    attenuation: float,
    blend: float,
) -> np.ndarray:
    """Compute DA-Gen's displacements of a patch: up on one side of its middle and down on the other.

    `points`, `normals`: ndarray of shape (n, 3).
    `centre`: ndarray of shape (3,).
    `axis` (ndarray of shape (3,)): direction of length 1.
    `sign`: {1, -1}.
    `distance`: largest displacement, of the farthest points along the axis.
    `attenuation`: reduction for far points: from 0 to 0.08 in the authors' code.
    `blend`: share of the normals in the direction; the axis has the rest: from 0.95 to 1 in the authors' code.
    Returns ndarray of shape (n, 3).
    """
    along = (points - centre) @ axis
    along = along / np.abs(along).max()
    directions = blend * normals + (1 - blend) * axis
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions * (sign * distance * along * (1 - attenuation * np.abs(along)))[:, None]


def drawn_push(size: tuple[int, int], distance_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a push of one patch by DA-Gen: vectors in mm to the right, down and up, float32 (h, w, 3)."""
    rows, columns = np.indices(size).reshape(2, -1)
    points = np.stack([columns, rows, np.zeros_like(rows)], axis=1).astype(np.float64)
    patch = crop_patches(points, PARTS, 1 + int(rng.integers(MOVED)), lambda count: int(rng.integers(count)))[-1]
    axis = rng.normal(size=3)
    moved = displacements(
        points[patch.taken],
        np.broadcast_to((0.0, 0.0, 1.0), (int(patch.taken.sum()), 3)),
        patch.centre,
        axis=axis / np.linalg.norm(axis),
        sign=float(rng.choice((-1.0, 1.0))),
        distance=distance_mm,
        attenuation=float(rng.uniform(0, 0.08)),
        blend=float(rng.uniform(0.95, 1)),
    )
    push = np.zeros((len(points), 3), np.float32)
    push[patch.taken] = moved
    return push.reshape(*size, 3)


def smooth_push(size: tuple[int, int], distance_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Draw an oval dent or bump with soft edges, straight up or down, `distance_mm` in its middle; see `drawn_push`."""
    height, width = size
    rows, columns = np.indices(size).astype(np.float32)
    radius = rng.uniform(*_RADII) * min(size)
    aspect, turn = _ASPECT ** rng.uniform(-0.5, 0.5), rng.uniform(0, np.pi)
    x, y = columns - rng.uniform(0, width - 1), rows - rng.uniform(0, height - 1)
    along, across = (x * np.cos(turn) + y * np.sin(turn)) * aspect, (y * np.cos(turn) - x * np.sin(turn)) / aspect
    off = (np.square(along) + np.square(across)) / radius**2
    push = np.zeros((*size, 3), np.float32)
    push[..., 2] = float(rng.choice((-1.0, 1.0))) * distance_mm * np.exp(-2 * off ** rng.uniform(*_STEEPNESS))
    return cv2.GaussianBlur(push, (0, 0), 1.0)
