"""Data sets with a folder for each kind: MVTec AD 2, LOCO AD, BTAD, good beside bad; not MVTec AD."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import GOOD, TEST, TRAIN, UNLABELLED, UNSPLIT, VALIDATION, LabelledImage
from edgead.dataset.layouts.kinds import GOOD_NAMES, SPLITS
from edgead.dataset.layouts.place import DataSetPath, names_in
from edgead.dataset.masks import Mask, add_file, find_mask
from edgead.images.files import list_images, natural_key

_LOCO_KINDS = ("logical_anomalies", "structural_anomalies")
_BAD_NAMES = {"abnormal", "anomaly", "anomalous", "bad", "defect", "defective", "ng", "nok"}
_PRIVATE = ("test_private", "test_private_mixed")


def read_mvtec_ad_2(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read an object of MVTec AD 2: `test_public` with its `ground_truth` inside, private tests without labels.

    Follows `make_mvtec2_dataset` of anomalib's data/datasets/image/mvtecad2.py, after Heckler-Kram et al., "The MVTec
    AD 2 Dataset", arXiv:2503.21622 (2025).
    """
    if not names_in(place.path, ("test_public", *_PRIVATE)):
        return None
    public = place.path / "test_public"
    return _all_of(
        _good(place.path, "train/good", "validation/good", "test_public/good"),
        _defects(public / "bad", partial(find_mask, public / "ground_truth" / "bad")),
        (
            LabelledImage(path, UNLABELLED, None, UNLABELLED)
            for name in names_in(place.path, _PRIVATE)
            for path in list_images(place.path / name)
        ),
    )


def read_mvtec_loco(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read an object of MVTec LOCO AD: a mask is a folder with the image's name, with a file for each defect.

    Follows `make_dataset` of anomalib's data/datasets/image/mvtec_loco.py, after Bergmann et al., "Beyond Dents and
    Scratches", IJCV 130 (2022).
    """
    kinds = {kind for folder in ("test", "ground_truth") for kind in names_in(place.path / folder, _LOCO_KINDS)}
    if not kinds:
        return None
    return _all_of(
        _good(place.path, "train/good", "validation/good", "test/good"),
        *(
            _defects(place.path / "test" / kind, _mask_folders(place.path / "ground_truth" / kind), kind)
            for kind in sorted(kinds)
        ),
    )


def read_btad(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read a product of BTAD (BTech): `ok` and `ko` for good and bad.

    Follows `make_btech_dataset` of anomalib's data/datasets/image/btech.py, after Mishra et al., "VT-ADL", ISIE
    (2021).
    """
    if not (place.path / "train" / "ok").is_dir():
        return None
    return _all_of(
        _good(place.path, "train/ok", "test/ok"),
        _defects(place.path / "test" / "ko", partial(find_mask, place.path / "ground_truth" / "ko"), "ko"),
    )


def read_good_and_bad(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read good and bad images in folders beside each other, such as `normal` and `anomaly`.

    These folders may be inside `train` and `test`. Data sets of anomalib's Folder, and buckets of Lookout for Vision,
    are like this. Masks, if any, are in `ground_truth/anomaly`.
    """
    if (place.path / "train" / GOOD).is_dir() or (place.path.parent / "train" / GOOD).is_dir():
        return None  # MVTec AD, or its folder `test`
    parts = [(SPLITS[name], place.path / name) for name in names_in(place.path, SPLITS)]
    found = [
        (split, entry, entry.name.lower() in GOOD_NAMES)
        for split, folder in parts or [(UNSPLIT, place.path)]
        for entry in sorted(folder.iterdir() if folder.is_dir() else ())
        if entry.is_dir() and entry.name.lower() in GOOD_NAMES | _BAD_NAMES
    ]
    if len({is_good for _, _, is_good in found}) < 2:
        return None
    return (
        LabelledImage(path, GOOD, None, split)
        if is_good
        else LabelledImage(path, entry.name, find_mask(place.path / "ground_truth" / entry.name, path), split)
        for split, entry, is_good in found
        for path in list_images(entry, below=True)
    )


FindMask = Callable[[Path], Path | Mask | None]


def _all_of(*parts: Iterable[LabelledImage]) -> Iterator[LabelledImage]:
    for part in parts:
        yield from part


def _good(folder: Path, *names: str) -> Iterator[LabelledImage]:
    """Yield good images, with the split from the beginning of each folder's name."""
    for name in names:
        split = next(known for known in (TRAIN, VALIDATION, TEST) if name.startswith(known))
        for path in list_images(folder / name):
            yield LabelledImage(path, GOOD, None, split)


def _defects(folder: Path, mask_of: FindMask, kind: str = "bad") -> Iterator[LabelledImage]:
    found = [LabelledImage(path, kind, mask_of(path), TEST) for path in list_images(folder)]
    bare = [image.path.name for image in found if image.mask is None]
    if bare:
        raise DatasetError(f"{len(bare)} of {len(found)} images in {folder} have no mask, {bare[0]} first")
    return iter(found)


def _mask_folders(folder: Path) -> FindMask:
    def find(image: Path) -> Mask | None:
        own = folder / image.stem
        files = tuple(sorted(own.glob("*.png"), key=natural_key))
        return Mask(own, tuple(partial(add_file, file=file) for file in files), files=files) if files else None

    return find
