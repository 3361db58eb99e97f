"""Eight small parts of which other tools have written data sets, in fixtures/sets, and what is true of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SETS = Path(__file__).parent / "fixtures" / "sets"
WIDTH, HEIGHT = 32, 24
LABELS = ("dent", "scratch")
CORNERS = ((4, 3), (16, 3), (16, 7), (9, 7), (9, 15), (4, 15))
"""Corners x, y of a dent, in the shape of an L: their sides lie between pixels, so that every tool marks the same."""
BOX = (18, 10, 8, 6)
"""x, y, width and height of a scratch."""
DEFECTS = {4: ("dent",), 5: ("scratch",), 6: ("dent", "scratch")}
"""Labels of the defective parts; the others are good."""
TRAIN, TEST, NEW = (0, 1, 2), (3, 4, 5, 6), 7
"""Parts by their split; the last is labelled by nobody."""


def name(number: int) -> str:
    """The file of a part's image."""
    return f"part_{number}.png"


def image(number: int) -> np.ndarray:
    """A part's image, uint8 (24, 32, 3): grey, each a little brighter than the last, with dark defects."""
    made = np.full((HEIGHT, WIDTH, 3), 100 + 10 * number, np.uint8)
    made[mask(number)] = 30
    return made


def mask(number: int, *labels: str) -> np.ndarray:
    """The pixels of a part's defects, bool (24, 32), or of those with some labels."""
    marked = np.zeros((HEIGHT, WIDTH), bool)
    wanted = set(DEFECTS.get(number, ())) & set(labels or LABELS)
    if "dent" in wanted:
        marked[3:7, 4:16] = marked[7:15, 4:9] = True
    if "scratch" in wanted:
        x, y, width, height = BOX
        marked[y : y + height, x : x + width] = True
    return marked
