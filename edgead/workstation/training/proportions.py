"""Proportions of the network's input, those of the images: what is squashed loses its finest defects first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgead.images.files import ImageError, load_image
from edgead.images.likeness import SAME_PROPORTIONS

STEP_PX = 16  # the coarsest stride of the layers that are compared
LOOKED_AT = 50
# Where more images than this have others than the usual ones, proportions are no property of the product; fewer are odd
# ones, which the training names.
ODD_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Proportions:
    """The height of what the network sees in units of its width, and the reason in words.

    `mixed`: the images have different ones, and what they leave free of the input is filled with their reflection.
    """

    height: float
    reason: str
    mixed: bool = False


def find_proportions(paths: Sequence[Path], roi: tuple[int, int, int, int] | None = None) -> Proportions:
    """Find the proportions that the network's input shall have.

    Parameters
    ----------
    paths : sequence of Path
        Good images; a sample of them is read.
    roi : (int, int, int, int), optional
        x, y, width and height of the region that is looked at.

    Returns
    -------
    Proportions
        Of a square where images have different ones, or none can be read.
    """
    if roi is not None:
        return Proportions(roi[3] / roi[2], "as the region of interest")
    logarithms = []
    for pick in np.linspace(0, len(paths) - 1, min(LOOKED_AT, len(paths))).round().astype(int):
        with suppress(ImageError):  # the training reports images that cannot be read, or leaves them out
            height, width = load_image(paths[pick]).shape[:2]
            logarithms.append(math.log(height / width))
    if not logarithms:
        return Proportions(1.0, "a square")
    usual = float(np.median(logarithms))
    if np.mean(np.abs(np.subtract(logarithms, usual)) > SAME_PROPORTIONS) > ODD_SHARE:
        return Proportions(1.0, "a square, filled up by reflection: the images have different proportions", mixed=True)
    return Proportions(math.exp(usual), "as the images")


def input_size(side: int, proportions: float, step: int = STEP_PX) -> list[int]:
    """Height and width with about side x side pixels in these proportions, in whole steps; [side, side] for 1."""
    if proportions == 1:
        return [side, side]
    sides = (side * math.sqrt(proportions), side / math.sqrt(proportions))
    return [max(step, step * round(length / step)) for length in sides]


def keep_proportions(settings: dict[str, Any], proportions: Proportions, step: int = STEP_PX) -> dict[str, Any]:
    """Settings with a `fill` whose square input keeps proportions, with as many pixels; a rectangle stays as it is."""
    height, width = settings["image_size"]
    if height != width:
        return settings
    fill = {"fill": "reflect"} if proportions.mixed else {}
    return {**settings, "image_size": input_size(height, proportions.height, step), **fill}
