"""Data sets that other tools have written (tests/fixtures/sets, by make.py there) are read as what they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
import written_sets
from written_sets import DEFECTS, HEIGHT, NEW, SETS, TEST, TRAIN, WIDTH

from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.dataset.layouts.registry import read_layout
from edgead.dataset.survey import survey

NAMED = {number: "+".join(labels) for number, labels in DEFECTS.items()}


def drawn(number: int) -> np.ndarray:
    return written_sets.mask(number)


def boxed(number: int) -> np.ndarray:
    """The boxes around the defects of a part, of tools that write no more."""
    marked = np.zeros((HEIGHT, WIDTH), bool)
    for label in DEFECTS.get(number, ()):
        ys, xs = np.nonzero(written_sets.mask(number, label))
        marked[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
    return marked


def without_strokes(number: int) -> np.ndarray:
    """Label Studio leaves out what a brush painted, but for its own format: the dent of part 6."""
    return written_sets.mask(number, "scratch") if number == 6 else drawn(number)


@dataclass(frozen=True, slots=True)
class Written:
    """What is true of a set: its layout, the parts to learn, to test and without label, kinds, and masks, if any."""

    layout: str
    learnt: tuple[int, ...] = TRAIN
    tested: tuple[int, ...] = TEST
    kinds: Mapping[int, str] = field(default_factory=NAMED.copy)
    mask: Callable[[int], np.ndarray] | None = drawn
    unlabelled: tuple[int, ...] = ()


def all_as(kind: str) -> dict[int, str]:
    return dict.fromkeys(DEFECTS, kind)


UNSPLIT = {"learnt": (*TRAIN, 3), "tested": (*TRAIN, *TEST)}
OF_ANOMALIB = {"learnt": (0, 1), "kinds": all_as("bad")}
WRITTEN = {
    "labelme": Written("LabelMe"),
    "label_studio/export.json": Written("Label Studio", **UNSPLIT, unlabelled=(NEW,)),
    "label_studio_coco": Written("COCO", **UNSPLIT, kinds={**NAMED, 6: "scratch"}, mask=without_strokes),
    "label_studio_yolo": Written("YOLO", **UNSPLIT, kinds={**NAMED, 6: "scratch"}, mask=without_strokes),
    "pycocotools": Written("COCO"),
    "supervision_boxes": Written("COCO", **UNSPLIT, mask=boxed),
    "supervision_yolo": Written("YOLO", **UNSPLIT, mask=boxed),
    "ultralytics": Written("YOLO"),
    "fiftyone_yolo": Written("YOLO", mask=boxed),
    "fiftyone_yolo_val": Written("YOLO", **UNSPLIT, mask=boxed),
    "datumaro": Written("Datumaro"),
    "datumaro_coco": Written("COCO"),
    "datumaro_yolo": Written("YOLO", mask=boxed),
    "cvat": Written("Datumaro", **UNSPLIT),
    "cvat_coco": Written("COCO", **UNSPLIT),
    "cvat_yolo": Written("YOLO"),
    "cvat_yolo_boxes": Written("YOLO", **UNSPLIT, mask=boxed),
    "lookout": Written("good beside bad", kinds=all_as("anomaly"), mask=None),
    "lookout/training.manifest": Written(
        "a manifest of Lookout for Vision", tested=(*TRAIN, 4), kinds=all_as("anomaly"), mask=None
    ),
    "lookout/test.manifest": Written(
        "a manifest of Lookout for Vision", learnt=(3,), kinds=all_as("anomaly"), mask=None
    ),
    "lookout_masks/output.manifest": Written(
        "a manifest of Lookout for Vision", **UNSPLIT, kinds=all_as("anomaly"), unlabelled=(NEW,)
    ),
    "visa/pcb1": Written("VisA", tested=(3, 4, 5), kinds=all_as("anomaly")),
    "visa_one_class": Written("MVTec AD", tested=(3, 4, 5), kinds=all_as("bad")),
    "real_iad/realiad_1024/audiojack": Written("Real-IAD", kinds=all_as("HS")),
    "real_iad/realiad_jsons/audiojack.json": Written("Real-IAD", kinds=all_as("HS")),
    "anomalib_mvtec_ad": Written("MVTec AD", tested=(2, 3, 4, 5), **OF_ANOMALIB),
    "anomalib_mvtec_ad_2": Written("MVTec AD 2", tested=(0, 1, 4, 5), unlabelled=(0, 1, 2, 3), **OF_ANOMALIB),
    "anomalib_mvtec_3d": Written("MVTec AD", learnt=(0,), tested=(2, 4), kinds=all_as("bad")),
    "anomalib_mvtec_loco": Written(
        "MVTec LOCO AD", learnt=(0, 1), tested=(3, 4, 5), kinds={4: "logical_anomalies", 5: "structural_anomalies"}
    ),
    "anomalib_btech": Written("BTAD", learnt=(0, 1), tested=(2, 3, 4, 5), kinds=all_as("ko")),
    "anomalib_folder": Written(
        "good beside bad", learnt=(0, 1), tested=(0, 1, 4, 5), kinds=all_as("abnormal"), mask=None
    ),
    "anomalib_tabular/samples.csv": Written("a table", kinds=all_as("anomaly")),
    "anomalib_datumaro": Written(
        "Datumaro", learnt=(0, 1, 2, 3), tested=(0, 1, 2, 3, 4, 5), kinds=all_as("Anomalous"), mask=None
    ),
}
ROUGH = {"supervision_coco": TRAIN, "fiftyone_coco": (*TRAIN, 3)}
"""With the parts to learn; supervision's is in the folders of Roboflow."""


def number_of(path) -> int:
    """The part that an image shows, by its grey: the tools have their own names for the files."""
    return round((int(cv2.imread(str(path))[-1, -1, 0]) - 100) / 10)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_set_is_read_as_its_tool_wrote_it(name):
    data, expected = SETS / name, WRITTEN[name]
    assert sorted(map(number_of, find_good_images(data))) == sorted(expected.learnt)
    tests = find_test_images(data)
    assert sorted(number_of(image.path) for image in tests) == sorted(expected.tested)
    for image in tests:
        number = number_of(image.path)
        assert image.defect == (expected.kinds[number] if number in DEFECTS else "good")
        found = image.load_mask((HEIGHT, WIDTH))
        if expected.mask is None and number in DEFECTS:
            assert found is None
        else:
            np.testing.assert_array_equal(found, (expected.mask or drawn)(number))
    found = survey(data)
    assert (found.to_dict()["layout"], found.problems) == (expected.layout, [])
    listed = read_layout(data)
    unlabelled = [number_of(one.path) for one in listed.images if one.split == "unlabelled"] if listed else []
    assert sorted(unlabelled) == list(expected.unlabelled)


@pytest.mark.parametrize(("name", "learnt"), ROUGH.items())
def test_polygons_that_tools_make_of_masks_mark_what_they_enclose(name, learnt):
    """They go through the middles of pixels, or near: a mask may end a pixel beside what was painted."""
    data = SETS / name
    assert survey(data).to_dict()["layout"] == "COCO" and survey(data).problems == []
    assert sorted(map(number_of, find_good_images(data))) == list(learnt)
    for image in find_test_images(data):
        number = number_of(image.path)
        assert image.defect == NAMED.get(number, "good")
        found, around = image.load_mask((HEIGHT, WIDTH)), np.ones((3, 3), np.uint8)
        inner, outer = (change(drawn(number).astype(np.uint8), around) for change in (cv2.erode, cv2.dilate))
        assert (found >= inner).all() and (found <= outer).all() and found.any() == (number in DEFECTS)


def test_each_set_is_tested():
    """And make.py has a function for each."""
    named = {name.split("/")[0] for name in (*WRITTEN, *ROUGH)}
    assert named == {path.name for path in SETS.iterdir() if path.is_dir() and not path.name.startswith("_")}
    text = (SETS / "make.py").read_text(encoding="utf-8")
    made_with = {"label_studio_coco": "label_studio", "label_studio_yolo": "label_studio"}
    assert all(f"def {made_with.get(name, name)}(folder" in text for name in named)


def test_names_of_the_folder_of_label_studios_server_lead_nowhere_else(tmp_path):
    """They are for the images below the export, and never for a file outside of it."""
    shutil.copytree(SETS / "label_studio_coco", tmp_path / "export")
    (tmp_path / "label-studio/media/upload/1").mkdir(parents=True)
    for path in (tmp_path / "export/images").iterdir():
        path.rename(tmp_path / "label-studio/media/upload/1" / path.name)
    with pytest.raises(DatasetError, match="7 of 7 images are missing"):
        find_good_images(tmp_path / "export")
