"""Layout of Real-IAD: an object's folder of images, or the JSON file that lists images to learn and to test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import GOOD, TEST, TRAIN, LabelledImage
from edgead.dataset.layouts.kinds import kind_of
from edgead.dataset.layouts.place import DataSetPath

_FOLDERS = "realiad_*"
# Places of the lists of all five views, including an archive unpacked into a folder of its own name.
_LISTS = ("realiad_jsons", "realiad_jsons/realiad_jsons")


class _Meta(BaseModel):
    prefix: str
    normal_class: str


class _Sample(BaseModel):
    anomaly_class: str
    image_path: str
    mask_path: str | None = None


class _Lists(BaseModel):
    meta: _Meta
    train: list[_Sample]
    test: list[_Sample]


def read_real_iad(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read an object of Real-IAD, such as Real-IAD/realiad_1024/audiojack or Real-IAD/realiad_jsons_sv/audiojack.json.

    Follows `ExplicitDataset.load_explicit` of Tencent/AnomalyDetection_Real-IAD, datasets/explicit_dataset.py: a
    view of a defective part is good in the test if it has no mask. A sample's folder, S0001, is a group: it holds five
    views of one part. Defects listed for training, as in FUIAD, are not learnt.
    """
    if place.file(".json"):
        if not place.is_json(place.path, "meta", "train", "test"):
            return None
        above = next((folder for folder in place.path.absolute().parents[1:3] if any(folder.glob(_FOLDERS))), None)
        lists = place.read(place.path, _Lists)
        held = sorted(
            folder for folder in (above.glob(_FOLDERS) if above else ()) if (folder / lists.meta.prefix).is_dir()
        )
        if len(held) != 1:
            names = ", ".join(folder.name for folder in held) or "none"
            raise DatasetError(
                f"one folder realiad_* with {lists.meta.prefix} is needed above {place.path}, found {names}: name the "
                "object's folder in one instead"
            )
        return _images(place, lists, place.path, held[0])
    whole = place.path.absolute()
    if not whole.parent.match(_FOLDERS):
        return None
    files = [whole.parents[1] / folder / f"{whole.name}.json" for folder in _LISTS]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise DatasetError(f"{files[0]} is missing")
    return _images(place, place.read(file, _Lists), file, whole.parent)


def _images(place: DataSetPath, lists: _Lists, file: Path, folder: Path) -> Iterator[LabelledImage]:
    base = folder / lists.meta.prefix
    for split, samples in ((TRAIN, lists.train), (TEST, lists.test)):
        for sample in samples:
            whole = split == TEST and not sample.mask_path  # in training it is not learnt
            good = whole or sample.anomaly_class == lists.meta.normal_class
            path = place.find(sample.image_path, file, [base], folder)
            mask = None if good or not sample.mask_path else place.find(sample.mask_path, file, [base], folder)
            kind = GOOD if good else kind_of([sample.anomaly_class])
            yield LabelledImage(path, kind, mask, split, path.parent.as_posix())
