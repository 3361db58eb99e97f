"""Layout of MVTec AD, and of MVTec 3D-AD: test/<type> and ground_truth/<type>, or a test folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import GOOD, LabelledImage
from edgead.dataset.layouts.place import contents
from edgead.dataset.made_sets import refuse_made
from edgead.dataset.masks import find_mask
from edgead.images.files import is_image_path, list_images, load_image
from edgead.images.pairs import MASKS, colour_folder
from edgead.images.volumes import is_volume, volume_of

# Folders beside `good` that are no kind of defect.
BESIDE = ("ground_truth", "train")


def read_mvtec_tests(data: Path) -> list[LabelledImage]:
    """List the test images, good ones first, then type by type; see `edgead.dataset.folders.find_test_images`."""
    test, truth = _test_folders(data)
    folders = sorted((entry for entry in test.iterdir() if entry.is_dir()), key=lambda f: (f.name != GOOD, f.name))
    found = [
        _labelled(path, folder.name, _masks_of(folder, truth))
        for folder in folders
        if test != data or folder.name not in BESIDE
        for path in list_images(colour_folder(folder))
    ]
    _refuse_unused(truth, found)
    return found


def _test_folders(data: Path) -> tuple[Path, Path]:
    """Return the folder with `good` and the kinds of defects, and the folder with the masks of each kind."""
    if not data.is_dir():
        raise DatasetError(f"{data}: no such folder")
    test = data / "test" if (data / "test").is_dir() else data
    refuse_made([test / GOOD])
    if test == data and not (data / GOOD).is_dir():
        raise DatasetError(
            f"{data} is no test set: it needs test/{GOOD} and test/<kind of defect>, or {GOOD} and a folder for each "
            f"kind of defect; it holds {contents(data)}"
        )
    parent = data.resolve().parent
    of_mvtec = test == data and not (data / "ground_truth").is_dir() and data.resolve() == parent / "test"
    return test, (parent if of_mvtec else data) / "ground_truth"


def _masks_of(folder: Path, truth: Path) -> Path:
    """Return the folder of masks for the images of a kind; in MVTec 3D-AD it is `gt` beside `rgb`."""
    masks = folder / MASKS
    return masks if masks.is_dir() and colour_folder(folder) != folder else truth / folder.name


def _labelled(path: Path, kind: str, masks: Path) -> LabelledImage:
    mask = find_mask(masks, path)
    if kind != GOOD and mask and volume_of(path) and not load_image(mask, keep_depth=True).any():
        return LabelledImage(path, GOOD, None)
    return LabelledImage(path, kind, mask)


def _refuse_unused(masks: Path, images: Sequence[LabelledImage]) -> None:
    """Raise DatasetError if there are masks but no mask belongs to an image, as folders or names are wrong."""
    if not masks.is_dir() or any(image.mask is not None for image in images):
        return
    if any(is_image_path(file) or is_volume(file) for file in masks.rglob("*")):
        raise DatasetError(
            f"{masks} holds masks, but none that is called as a test image is: expected ground_truth/<type>/"
            f"NAME_mask.png or NAME.png for test/<type>/NAME, found {contents(masks)}"
        )
