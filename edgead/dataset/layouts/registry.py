"""Table of layouts with their readers; an incomplete layout is refused with a message that says what is missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import GOOD, TEST, TRAIN, UNLABELLED, UNSPLIT, LabelledImage
from edgead.dataset.layouts.class_folders import read_btad, read_good_and_bad, read_mvtec_ad_2, read_mvtec_loco
from edgead.dataset.layouts.coco import read_coco, read_datumaro
from edgead.dataset.layouts.label_studio import read_label_studio
from edgead.dataset.layouts.labelme import read_labelme
from edgead.dataset.layouts.lookout import read_lookout
from edgead.dataset.layouts.place import DataSetPath, read_text
from edgead.dataset.layouts.real_iad import read_real_iad
from edgead.dataset.layouts.tables import read_table
from edgead.dataset.layouts.visa import read_visa
from edgead.dataset.layouts.yolo import read_yolo
from edgead.dataset.masks import Mask
from edgead.images.files import ImageError


@dataclass(frozen=True, slots=True)
class Layout:
    """Layout of data sets: its name, its expected files and its reader.

    `expected`: description of the layout's files, for messages.
    `read`: function from a data set's path to its images, or None for another layout; raises DatasetError if files are
        missing.
    """

    name: str
    expected: str
    read: Callable[[DataSetPath], Iterable[LabelledImage] | None]


LAYOUTS = (
    Layout(
        "MVTec AD 2",
        "train/good, validation/good, test_public/good, test_public/bad and test_public/ground_truth/bad/NAME_mask.png",
        read_mvtec_ad_2,
    ),
    Layout(
        "MVTec LOCO AD",
        "train/good, validation/good, test/good, test/logical_anomalies, test/structural_anomalies and for each of "
        "their images masks ground_truth/KIND/NAME/000.png",
        read_mvtec_loco,
    ),
    Layout(
        "YOLO", "data.yaml with train, val and names, and labels/NAME.txt for images/NAME.jpg with a defect", read_yolo
    ),
    Layout("BTAD", "train/ok, test/ok, test/ko and ground_truth/ko/NAME.png", read_btad),
    Layout("VisA", "OBJECT/Data/Images, OBJECT/Data/Masks and beside OBJECT split_csv/1cls.csv", read_visa),
    Layout(
        "Real-IAD",
        "realiad_1024/OBJECT with images, beside realiad_1024 realiad_jsons/OBJECT.json with meta, train and test",
        read_real_iad,
    ),
    Layout("COCO", "JSON with images, annotations and categories, in annotations/ or beside the images", read_coco),
    Layout("Datumaro", "annotations/SUBSET.json with categories and items, and images/SUBSET", read_datumaro),
    Layout("LabelMe", "a JSON file with shapes and imagePath beside each image", read_labelme),
    Layout("Label Studio", "its export JSON, a list of tasks with data and annotations, and images", read_label_studio),
    Layout("a manifest of Lookout for Vision", "JSON lines with source-ref and anomaly-label-metadata", read_lookout),
    Layout(
        "a table", "CSV, a row an image, with the columns path and label, and mask, group and split if any", read_table
    ),
    Layout(
        "good beside bad",
        "good, ok or normal beside bad, ng, anomaly or defect, also in train and test",
        read_good_and_bad,
    ),
)


_BEGINNING = 20_000  # characters of an unknown file that are compared with the layouts


@dataclass(frozen=True, slots=True)
class DataSet:
    """Images of a data set, with the name of its layout."""

    path: Path
    layout: str
    images: Sequence[LabelledImage]

    @property
    def has_splits(self) -> bool:
        """Whether the data set states which images are for training and which for test."""
        return any(image.split not in (UNSPLIT, UNLABELLED) for image in self.images)

    def learnt(self) -> list[Path]:
        """List the good images to learn from: of the split train, or all if there are no splits."""
        return [image.path for image in self.images if image.defect == GOOD and image.split in (TRAIN, UNSPLIT)]

    def tested(self) -> list[LabelledImage]:
        """List the images to test with: of the split test, or all if there are no splits."""
        return [image for image in self.images if image.split in (TEST, UNSPLIT)]

    def groups(self) -> dict[Path, str]:
        """Group name of each image, as far as the data set states it."""
        return {image.path: image.group for image in self.images if image.group is not None}


def read_layout(data: Path) -> DataSet | None:
    """Read a data set whose layout is in the table; None for any other folder, which may still hold images.

    Raises DatasetError: a layout is incomplete, a file has wrong content, or the path is a file that is no list of
        images.
    """
    place = DataSetPath(data)
    if file := place.file(".json"):
        place.json(file)  # parsed once for all layouts, as a damaged file belongs to none
    for layout in LAYOUTS:
        try:
            found = layout.read(place)
            if found is not None:
                images = tuple(found)
                _check(images)
                return DataSet(data, layout.name, images)
        except (DatasetError, ImageError) as error:
            alone = "; to learn without labels, name the folder of good images with --normal-dir, . for this one"
            raise DatasetError(
                f"{data} is read as {layout.name}: {error}. Expected: {layout.expected}{alone * data.is_dir()}"
            ) from error
    if data.is_file():
        known = "; ".join(f"{layout.name}: {layout.expected}" for layout in _nearest(place))
        raise DatasetError(f"{data} lists no images in a layout that edgead knows. The nearest are {known}")
    return None


def _nearest(place: DataSetPath) -> list[Layout]:
    """Return the three layouts whose descriptions have most words in common with this file's type, keys or columns."""
    suffix = place.path.suffix[1:].lower()
    found = _words(read_text(place.path)[:_BEGINNING])

    def shared(layout: Layout) -> tuple[bool, int]:
        expected = _words(layout.expected)
        return suffix in expected, len(found & expected)

    return sorted(LAYOUTS, key=shared, reverse=True)[:3]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w{3,}", text.lower()))


def _check(images: Sequence[LabelledImage]) -> None:
    """Raise DatasetError if images are missing or listed twice, or if only some have a split."""
    if not images:
        raise DatasetError("it lists no images")
    masks = [file for image in images for file in _mask_files(image.mask)]
    for what, files in (("images", [image.path for image in images]), ("masks", masks)):
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise DatasetError(f"{len(missing)} of {len(files)} {what} are missing, {missing[0]} first")
    (path, times), *_ = Counter(image.path for image in images).most_common(1)
    if times > 1:
        raise DatasetError(f"{path} is listed {times} times")
    splits = Counter(image.split for image in images if image.split != UNLABELLED)
    if UNSPLIT in splits and len(splits) > 1:
        raise DatasetError(f"{splits[UNSPLIT]} of {splits.total()} images are of no split, train, validation or test")


def _mask_files(mask: Path | Mask | None) -> Sequence[Path]:
    if mask is None:
        return ()
    return mask.files if isinstance(mask, Mask) else (mask,)
