"""Weights and images that anyone can draw again: what fixtures of public code were made with, and what tests draw."""

from __future__ import annotations

import numpy as np


def draw_weights(shapes, seed):
    """Draw float32 arrays for (name, shape) in their order, from numpy's PCG64 with this seed.

    A convolution's weights are normal with the variance 2 / fan-in, so that a signal keeps its size through ReLUs;
    biases are normal with a deviation of 0.1. A value depends on the shapes before it alone, not on the names.
    """
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, shape in shapes:
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        drawn[name] = (scale * rng.standard_normal(shape)).astype(np.float32)
    return drawn


def draw_image(seed, side):
    """Draw an image of coloured squares under noise: uint8 RGB (side, side, 3)."""
    rng = np.random.default_rng(seed)
    squares = rng.integers(30, 226, (8, 8, 3)).repeat(side // 8, axis=0).repeat(side // 8, axis=1)
    return np.clip(squares + rng.normal(0, 12, (side, side, 3)), 0, 255).astype(np.uint8)
