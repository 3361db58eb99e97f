"""The network's input keeps the proportions of the images: what is squashed loses its finest defects first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgead.images import ImageError, load_image

STEP_PX = 16  # the coarsest stride of the layers that are compared
LOOKED_AT = 50
# Proportions that differ by more than this (deviation of the logarithm) are no property of the product.
SAME_PROPORTIONS = 0.1


def find_proportions(paths: Sequence[Path], roi: tuple[int, int, int, int] | None = None) -> tuple[float, str]:
    """Find the height of what the network sees in units of its width.

    Parameters
    ----------
    paths : sequence of Path
        Good images; a sample of them is read.
    roi : (int, int, int, int), optional
        x, y, width and height of the region that is looked at.

    Returns
    -------
    (float, str)
        1 where the proportions differ between images; and the reason in words.
    """
    if roi is not None:
        return roi[3] / roi[2], "as the region of interest"
    logarithms = []
    for pick in np.linspace(0, len(paths) - 1, min(LOOKED_AT, len(paths))).round().astype(int):
        with suppress(ImageError):  # the training reports images that cannot be read, or leaves them out
            height, width = load_image(paths[pick]).shape[:2]
            logarithms.append(math.log(height / width))
    if not logarithms or np.std(logarithms) > SAME_PROPORTIONS:
        return 1.0, "a square, for the images have different proportions"
    return float(np.exp(np.median(logarithms))), "as the images"


def input_size(side: int, proportions: float) -> list[int]:
    """Height and width with about side x side pixels in these proportions, in whole steps; [side, side] for 1."""
    if proportions == 1:
        return [side, side]
    sides = (side * math.sqrt(proportions), side / math.sqrt(proportions))
    return [max(STEP_PX, STEP_PX * round(length / STEP_PX)) for length in sides]


def keep_proportions(settings: dict[str, Any], proportions: float) -> dict[str, Any]:
    """Settings whose square input becomes a rectangle of as many pixels; others stay as they are."""
    height, width = settings["image_size"]
    if height != width:
        return settings
    return {**settings, "image_size": input_size(height, proportions)}
