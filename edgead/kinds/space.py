"""The space in which rejects are compared: how much a residual counts beside the looks.

What describes a reject has two halves, see `edgead.heads.contract.Describer`. To find kinds, only the direction in
which rejects differ from good parts counts. To know a kind again, how far they differ counts too: a break is farther
from what is good than a scratch.
"""

from __future__ import annotations

import numpy as np

_TINY = float(np.finfo(np.float32).tiny)


def residual_scale(descriptors: np.ndarray) -> float:
    """By what the first halves of descriptors (m, n) are multiplied, so that the median of their lengths is 1."""
    half = descriptors.shape[1] // 2
    median = float(np.median(np.linalg.norm(descriptors[:, :half].astype(np.float64), axis=1)))
    return 1.0 if median < _TINY else 1 / median


def scaled(descriptors: np.ndarray, scale: float) -> np.ndarray:
    """Multiply the first halves of descriptors (..., n) by a scale: float32 (..., n)."""
    half = descriptors.shape[-1] // 2
    return np.concatenate([np.float32(scale) * descriptors[..., :half], descriptors[..., half:]], axis=-1)


def directions(descriptors: np.ndarray) -> np.ndarray:
    """Make both halves of descriptors (m, n) of length 1: float32 (m, n)."""
    halves = descriptors.reshape(len(descriptors), 2, -1)
    return (halves / np.maximum(np.linalg.norm(halves, axis=2, keepdims=True), _TINY)).reshape(descriptors.shape)
