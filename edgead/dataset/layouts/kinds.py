"""Names of kinds and splits in tables and annotations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import GOOD, TEST, TRAIN, UNSPLIT, VALIDATION, LabelledImage
from edgead.dataset.masks import Draw, Mask

GOOD_NAMES = {"good", "ok", "normal"}
UNPLACED = "without a place"  # ends a kind of edgead's export whose box is the whole image
SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
_MAX_NAME = 100


def kind_of(names: Iterable[str]) -> str:
    """Derive an image's kind from the labels on it: "good" if none is a defect, "dent+scratch" for two.

    Raises DatasetError: a name is empty or too long.
    """
    clean = {" ".join(name.split()) for name in names}
    wrong = next((name for name in clean if not 0 < len(name) <= _MAX_NAME or not name.isprintable()), None)
    if wrong is not None:
        raise DatasetError(f"{wrong[:_MAX_NAME]!r} is no name of a kind: 1 to {_MAX_NAME} characters")
    return "+".join(sorted(name for name in clean if name.lower() not in GOOD_NAMES)) or GOOD


def split_of(*names: str) -> str:
    """Derive the split from the name of a file, folder or subset; UNSPLIT if it names none."""
    words = [word for name in names for word in re.split(r"[^a-z]+", name.lower())]
    return next((SPLITS[word] for word in words if word in SPLITS), UNSPLIT)


def annotated(
    path: Path, marks: Sequence[tuple[str, Draw | None]], size: tuple[int, int] | None, source: Path, split: str
) -> LabelledImage:
    """Make a labelled image from its annotations.

    `marks` (sequence of (str, callable or None)): label and drawing function of each annotation; None for a label of
        the whole image. Without any, it is good.
    `size`: height and width of the image.
    """
    kind = kind_of(label for label, _ in marks)
    draws = tuple(draw for label, draw in marks if draw and kind_of([label]) != GOOD and not label.endswith(UNPLACED))
    return LabelledImage(path, kind, Mask(source, draws, size) if draws else None, split)
