"""The spaces in which rejects are compared: what of them counts, and how much a residual counts beside the rest.

What describes a reject has three parts, see `edgead.heads.contract.Describer`. To find kinds, the direction in which
rejects differ from good parts counts, and how the most anomalous patches look. To know a kind again, how far they
differ counts too: a break is farther from what is good than a scratch; and how they look beside the rest of the same
frame, which light and exposure change less.
"""

from __future__ import annotations

import numpy as np

_TINY = float(np.finfo(np.float32).tiny)


def residual_scale(descriptors: np.ndarray) -> float:
    """By what the residuals of descriptors (m, 3 d) are multiplied, so that the median of their lengths is 1."""
    residuals = _parts(descriptors)[:, 0]
    median = float(np.median(np.linalg.norm(residuals.astype(np.float64), axis=1)))
    return 1.0 if median < _TINY else 1 / median


def to_know(descriptors: np.ndarray, scale: float) -> np.ndarray:
    """What kinds are known again by, of descriptors (m, 3 d): scaled residuals and contrasts, float32 (m, 2 d)."""
    parts = _parts(descriptors)
    return np.concatenate([np.float32(scale) * parts[:, 0], parts[:, 2]], axis=1)


def to_find(descriptors: np.ndarray) -> np.ndarray:
    """What kinds are found by, of descriptors (m, 3 d): residuals and looks, each of length 1, float32 (m, 2 d)."""
    halves = _parts(descriptors)[:, :2]
    lengths = np.maximum(np.linalg.norm(halves, axis=2, keepdims=True), _TINY)
    return (halves / lengths).reshape(len(descriptors), -1)


def _parts(descriptors: np.ndarray) -> np.ndarray:
    """Residuals, looks and contrasts: (m, 3, d)."""
    return descriptors.reshape(len(descriptors), 3, -1)
