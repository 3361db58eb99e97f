"""Names of kinds and of splits, as tables and annotations spell them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import GOOD, TEST, TRAIN, UNSPLIT, VALIDATION, LabelledImage
from edgead.dataset.masks import Draw, Mask

_GOOD_NAMES = {"good", "ok", "normal"}
_SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
_MAX_NAME = 100


def kind_of(names: Iterable[str]) -> str:
    """The kind of an image whose defects have these names: "good" where none is one, "dent+scratch" of two.

    Raises
    ------
    DatasetError
        A name is empty, or too long for one.
    """
    clean = {" ".join(name.split()) for name in names}
    wrong = next((name for name in clean if not 0 < len(name) <= _MAX_NAME or not name.isprintable()), None)
    if wrong is not None:
        raise DatasetError(f"{wrong[:_MAX_NAME]!r} is no name of a kind: 1 to {_MAX_NAME} characters")
    return "+".join(sorted(name for name in clean if name.lower() not in _GOOD_NAMES)) or GOOD


def split_of(*names: str) -> str:
    """The split that a file, a folder or a subset is called after; UNSPLIT where it is called otherwise."""
    words = [word for name in names for word in re.split(r"[^a-z]+", name.lower())]
    return next((_SPLITS[word] for word in words if word in _SPLITS), UNSPLIT)


def annotated(
    path: Path, marks: Sequence[tuple[str, Draw | None]], size: tuple[int, int] | None, source: Path, split: str
) -> LabelledImage:
    """Make an image of its annotations.

    Parameters
    ----------
    path : Path
    marks : sequence of (str, callable or None)
        The label of each, and what draws it; None for one of the whole image. None at all: the image is good.
    size : (int, int), optional
        Height and width of the image.
    source : Path
    split : str
    """
    kind = kind_of(label for label, _ in marks)
    draws = tuple(draw for label, draw in marks if draw is not None and kind_of([label]) != GOOD)
    return LabelledImage(path, kind, Mask(source, draws, size) if draws else None, split)
