"""Layout of the unpacked VisA: an object's folder, beside the folder of split files that assign images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import LabelledImage
from edgead.dataset.layouts.kinds import kind_of, split_of
from edgead.dataset.layouts.place import DataSetPath
from edgead.dataset.layouts.tables import read_csv

_SPLIT_FILE = "split_csv/1cls.csv"


def read_visa(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read an object of VisA, such as VisA/pcb1, by the one-class split of its authors.

    Follows `prepare_data.py` of amazon-science/spot-diff: the columns object, split, label, image and mask, with paths
    relative to the folder above the object's. The output of that script has the layout of MVTec AD.
    """
    if not (place.path / "Data" / "Images").is_dir():
        if (place.path / _SPLIT_FILE).is_file():
            raise DatasetError(f"{place.path} holds several objects: name the folder of one, such as pcb1")
        return None
    return _rows(place, place.path.absolute().parent)


def _rows(place: DataSetPath, above: Path) -> Iterator[LabelledImage]:
    name, table = place.path.absolute().name, above / _SPLIT_FILE
    for row in read_csv(table, ("object", "split", "label", "image", "mask")):
        if row["object"] == name:
            kind = kind_of([row["label"]])
            mask = place.find(row["mask"], table, [above], place.path) if row["mask"] else None
            yield LabelledImage(
                place.find(row["image"], table, [above], place.path), kind, mask, split_of(row["split"])
            )
