"""Survey of a data set: layout, images by split and kind, masks, sizes, and problems."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import Progress, find_good_images, find_test_images, is_test_set
from edgead.dataset.labelled import GOOD, TRAIN, UNSPLIT, LabelledImage
from edgead.dataset.layouts.registry import DataSet, read_layout
from edgead.images.files import ImageError, load_image

_PLAIN = "a folder of images"
# Words in file names that may tell what images show; with more different words, names carry no meaning.
_FIRST_WORD, _MOST_WORDS = re.compile(r"[^\W\d_]{2,}"), 8


@dataclass(frozen=True, slots=True)
class Survey:
    """Survey of a data set's content.

    `sizes`: number of images of each size, (height, width).
    `problems`: messages on images and masks that cannot be used.
    `notes`: messages on files that are not used, or missing but not needed.
    """

    found: DataSet
    sizes: Counter[tuple[int, int]]
    problems: list[str]
    notes: list[str]

    @property
    def is_plain(self) -> bool:
        """Whether the images have no labels."""
        return self.found.layout == _PLAIN

    def rows(self) -> list[dict[str, Any]]:
        """Count the images of each split and kind, in the order of the data set."""
        rows: dict[tuple[str, str], list[LabelledImage]] = {}
        for image in self.found.images:
            rows.setdefault((image.split, "taken as good" if self.is_plain else image.defect), []).append(image)
        return [
            {
                "split": split or "none",
                "kind": kind,
                "images": len(images),
                "masks": sum(image.mask is not None for image in images),
                "groups": len({image.group or image.path for image in images}),
            }
            for (split, kind), images in rows.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON types; `learnt` and `tested` are the numbers of images that `train` and `eval` use."""
        return {
            "path": str(self.found.path),
            "layout": self.found.layout,
            "images": len(self.found.images),
            "learnt": len(self.found.learnt()),
            "tested": 0 if self.is_plain else len(self.found.tested()),
            "splits": self.rows(),
            "sizes": {f"{width}x{height}": count for (height, width), count in self.sizes.most_common()},
            "problems": self.problems,
            "notes": self.notes,
        }


def survey(data: Path, progress: Progress | None = None) -> Survey:
    """Read every image and every mask of a data set once.

    Raises DatasetError, ImageError: the folder is no data set, or an incomplete one.
    """
    found = read_layout(data) or _of_folders(data)
    sizes: Counter[tuple[int, int]] = Counter()
    problems = []
    empty = bare = 0
    for done, image in enumerate(found.images, 1):
        try:
            height, width = load_image(image.path).shape[:2]
            sizes[height, width] += 1
            mask = image.load_mask((height, width))
            bare += mask is None
            empty += mask is not None and image.is_defective and not mask.any()
        except (DatasetError, ImageError) as error:
            problems.append(str(error))
        if progress:
            progress(done, len(found.images))
    notes = _notes_of_plain(found) if found.layout == _PLAIN else _notes(found, bare, empty)
    return Survey(found, sizes, problems, notes)


def _of_folders(data: Path) -> DataSet:
    """Read a data set in the layout of MVTec AD, a test set alone, or a plain folder, whose images count as good."""
    if data.is_dir() and is_test_set(data):
        return DataSet(data, "a test set", find_test_images(data))
    test, split = (data / "test").is_dir(), TRAIN if (data / "train").is_dir() else UNSPLIT
    has_good = not test or (data / TRAIN / GOOD).is_dir()
    images = [LabelledImage(path, GOOD, None, split) for path in find_good_images(data)] if has_good else []
    layout = "MVTec AD" if test or split else _PLAIN
    return DataSet(data, layout, [*images, *(find_test_images(data) if test else ())])


def _notes_of_plain(found: DataSet) -> list[str]:
    notes = [f"{len(found.images)} images, taken as good: nothing says so"]
    return notes + different_names([image.path for image in found.images])


def different_names(paths: Sequence[Path]) -> list[str]:
    """Warn, in a list, if images of one folder have names with 2 to 8 different first words, like `good` and `dent`."""
    first = [_FIRST_WORD.match(path.name) for path in paths]
    words = Counter(word[0] for word in first if word)
    if words.total() < len(first) or not 1 < len(words) <= _MOST_WORDS or len({path.parent for path in paths}) > 1:
        return []
    named = ", ".join(f"{count} with {word}" for word, count in words.most_common())
    return [f"names begin with different words ({named}): images of defects may lie among them"]


def _notes(found: DataSet, bare: int, empty: int) -> list[str]:
    notes = []
    used = {*found.learnt(), *(image.path for image in found.tested())}
    left = Counter((image.split, image.defect) for image in found.images if image.path not in used)
    notes += [f"not used: {count} of {kind} in the split {split}" for (split, kind), count in left.items()]
    if not found.has_splits and len({image.is_defective for image in found.images}) > 1:
        notes.append(
            "no splits: train learns all good images, and `eval --left-out` judges each as a stranger to the others"
        )
    if bare:
        notes.append(f"defective images without a mask, which pixel metrics leave out: {bare}")
    if empty:
        notes.append(f"masks of defects that mark nothing: {empty}")
    if found.tested() and not found.learnt():
        notes.append("it serves eval and report, not train: that learns a folder of good images")
    elif not any(image.is_defective for image in found.tested()):
        notes.append("no defective images to test with")
    return notes
