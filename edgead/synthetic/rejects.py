"""Real rejects on disk, by kind, with the places of their defects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import GOOD
from edgead.dataset.made_sets import Label, refuse_made
from edgead.dataset.masks import find_mask
from edgead.files.regular_files import UnreadableFileError, read_regular
from edgead.images.files import is_image_path, list_images, load_image
from edgead.images.pairs import colour_folder

UNNAMED = "defect"
_MAX_BYTES = 256 << 20
_TRUTH = "ground_truth"

Marking = Callable[[Path, np.ndarray], np.ndarray | None]
"""Function from a reject and its image, uint8 BGR (H, W, 3), to the defect's mask, bool (H, W); None if unknown."""


@dataclass(frozen=True, slots=True)
class RealDefect:
    """Reject with the name of its kind, the mark of its defect, and the type of mark: a mask, boxes or a heat map."""

    path: Path
    kind: str
    marking: Marking
    label: Label

    def load(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the image and the mask of its defect, which is None if nothing is marked."""
        image = load_image(self.path)
        mask = self.marking(self.path, image)
        return image, mask if mask is not None and mask.any() else None


def find_rejects(folder: Path) -> list[tuple[Path, str]]:
    """List the images of a folder with the names of their kinds.

    `folder`: FOLDER/KIND/*.png, FOLDER/test/KIND/*.png as in the MVTec layout, or images without kinds. Images in a
        folder `good` are left out.
    Raises DatasetError: there are no such images, or the folder's defects are made, not real.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; name one of rejects, best FOLDER/KIND/*.png")
    top = folder / "test" if (folder / "test").is_dir() else folder
    kinds = sorted(entry for entry in top.iterdir() if entry.is_dir() and _holds_images(entry))
    kinds = [entry for entry in kinds if entry.name not in (GOOD, _TRUTH)]
    found = [(path, entry.name) for entry in kinds for path in list_images(colour_folder(entry))]
    found = found or [(path, UNNAMED) for path in list_images(colour_folder(folder))]
    refuse_made(path for path, _ in found)
    return found


def by_masks(rejects: Sequence[tuple[Path, str]], folder: Path) -> list[RealDefect]:
    """Take defects from masks, any value above 0: FOLDER/KIND/NAME_mask.png, or FOLDER/NAME_mask.png."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; name that of the masks")

    def read(path: Path, image: np.ndarray, kind: str) -> np.ndarray | None:
        file = find_mask(folder / kind, path) or find_mask(folder, path)
        if file is None:
            return None
        mask = load_image(file)[:, :, 0] > 0
        if mask.shape != image.shape[:2]:
            raise DatasetError(f"{file} is {mask.shape}, its image {path.name} is {image.shape[:2]} (rows, columns)")
        return mask

    return [
        RealDefect(path, kind, lambda path, image, kind=kind: read(path, image, kind), "mask")  # type: ignore[misc]
        for path, kind in rejects
    ]


def by_boxes(rejects: Sequence[tuple[Path, str]], verdicts: Path) -> list[RealDefect]:
    """Take defects from the boxes of verdicts, a JSON object a line with `name` and `boxes`, as the sink jsonl writes.

    Raises DatasetError: the file cannot be read, a line of it is no verdict, or two rejects have one name.
    """
    (name, count), *_ = Counter(path.name for path, _ in rejects).most_common(1) or [("", 0)]
    if count > 1:
        raise DatasetError(f"{count} rejects are called {name}: verdicts name images by their file alone, rename them")
    boxes = _read_boxes(verdicts)

    def mark(path: Path, image: np.ndarray) -> np.ndarray | None:
        mask = np.zeros(image.shape[:2], np.uint8)
        for x, y, width, height in boxes.get(path.name, ()):
            cv2.rectangle(mask, (x, y), (x + width - 1, y + height - 1), 1, -1)
        return mask > 0

    return [RealDefect(path, kind, mark, "box") for path, kind in rejects]


def masks_beside(folder: Path) -> Path | None:
    """Find the folder of masks for rejects in the MVTec layout; None if there is none."""
    return next((found for found in (folder / _TRUTH, folder.parent / _TRUTH) if found.is_dir()), None)


def _holds_images(folder: Path) -> bool:
    return any(is_image_path(entry) and entry.is_file() for entry in colour_folder(folder).iterdir())


def _read_boxes(file: Path) -> Mapping[str, list[tuple[int, int, int, int]]]:
    try:
        lines = read_regular(file, _MAX_BYTES).decode().splitlines()
    except UnreadableFileError as error:
        raise DatasetError(f"{file} {error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is not in UTF-8 ({error}): give what the sink jsonl has written") from error
    found = {}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            boxes = [tuple(int(box[name]) for name in ("x", "y", "width", "height")) for box in record["boxes"]]
            if any(min(box[:2]) < 0 or min(box[2:]) < 1 for box in boxes):
                raise ValueError("a box lies outside")
            found[str(record["name"])] = boxes
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DatasetError(
                f"{file}, line {number} is no verdict with name and boxes ({type(error).__name__}: {error}): give what "
                "the sink jsonl has written"
            ) from error
    return found  # type: ignore[return-value]  # four numbers each
