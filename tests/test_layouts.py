"""Layouts of data sets: each is read as it is published, and half of one is refused in words."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from functools import partial

import data_sets
import numpy as np
import pytest
from command_line import run_here
from data_sets import COLUMNS, table_rows, write, write_csv
from test_evaluate import Brightness

from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.dataset.groups import group_images
from edgead.dataset.layouts.registry import LAYOUTS, read_layout
from edgead.dataset.survey import survey
from edgead.report.evaluate import evaluate


@pytest.fixture(scope="session")
def made():
    return data_sets.parts()


LAID_OUT = {
    "MVTec AD": data_sets.mvtec_ad,
    "MVTec AD 2": data_sets.mvtec_ad_2,
    "MVTec LOCO AD": data_sets.mvtec_loco,
    "BTAD": data_sets.btad,
    "VisA": data_sets.visa,
    "MVTec AD, as VisA one class": data_sets.visa_one_class,
    "Real-IAD": data_sets.real_iad,
    "COCO": data_sets.coco,
    "COCO, of Roboflow": data_sets.roboflow,
    "Datumaro": data_sets.datumaro,
    "LabelMe": data_sets.labelme,
    "CVAT": data_sets.cvat,
    "Label Studio": data_sets.label_studio,
    "a manifest of Lookout for Vision": data_sets.lookout,
    "a table": data_sets.table,
    "a table of Parquet": data_sets.parquet_table,
}
UNSPLIT = ("Label Studio", "a manifest of Lookout for Vision")
"""Of these, what is named is a test set: its good images would be learnt, too."""


@pytest.mark.parametrize("layout", LAID_OUT)
def test_a_layout_is_read_as_it_is_published(tmp_path, made, layout):
    """Good images to learn, all that is to be tested with its masks, and what `data show` says of it."""
    if layout == "a table of Parquet":
        pytest.importorskip("pyarrow", reason="PARQUET NOT TESTED: pip install pyarrow")
    data = LAID_OUT[layout](tmp_path, made)
    split = "test" if layout in UNSPLIT else "train"
    numbers = [part.number for part in made if part.split == split and part.kind == "good"]
    assert [int(path.stem[:3]) for path in find_good_images(data)] == numbers
    tests = find_test_images(data)
    masks = {part.number: part.mask for part in made if part.split == "test"}
    assert sorted(int(image.path.stem[:3]) for image in tests) == sorted(masks)
    for image in tests:
        mask = masks[int(image.path.stem[:3])]
        assert image.is_defective == bool(mask.any())
        np.testing.assert_array_equal(image.load_mask(mask.shape), mask)
    report = evaluate(Brightness(), tests).to_dict()
    assert report["defects_with_masks"] == 3 and report["pixel_AUROC"] is not None
    found = survey(data).to_dict()
    assert found["layout"] == layout.split(",")[0].removesuffix(" of Parquet")
    assert (found["learnt"], found["tested"], found["problems"]) == (len(numbers), 5, [])
    assert sum(row["masks"] for row in found["splits"]) == 3
    assert found["sizes"] == {"64x64": found["images"]}


def test_kinds_keep_their_names(tmp_path, made):
    loco = find_test_images(data_sets.mvtec_loco(tmp_path / "loco", made))
    assert Counter(image.defect for image in loco) == {"good": 2, "logical_anomalies": 1, "structural_anomalies": 2}
    listed = find_test_images(data_sets.table(tmp_path / "table", made))
    assert Counter(image.defect for image in listed) == {"good": 2, "stain": 1, "dent": 2}


def test_what_has_no_labels_is_counted_and_not_used(tmp_path, made):
    found = survey(data_sets.mvtec_ad_2(tmp_path, made))
    assert {"split": "unlabelled", "kind": "unlabelled", "images": 1, "masks": 0, "groups": 1} in found.rows()
    assert "1 unlabelled images of the split unlabelled are not used" in found.notes
    assert "1 good images of the split validation are not used" in found.notes


def test_groups_of_a_table_hold_together(tmp_path, made):
    data = data_sets.table(tmp_path, made)
    groups = group_images(find_good_images(data), root=data)
    assert groups.count == 3 and "groups that the data set names" in groups.account
    assert groups.of(find_good_images(data)) == [0, 0, 1, 1, 2, 2]


def test_a_file_for_group_has_paths_from_the_folder_of_a_table(tmp_path, made):
    data = data_sets.table(tmp_path, made)
    rule = write_csv(
        tmp_path / "groups.csv", [["path", "group"], *((row[0], "a") for row in table_rows(tmp_path, made))]
    )
    assert group_images(find_good_images(data), str(rule), data).count == 1


def test_a_table_without_splits_is_for_what_it_is_named_for(tmp_path, made):
    """Spreadsheets write semicolons, and a byte order mark."""
    text = "\n".join(";".join(row[:3]) for row in [COLUMNS, *table_rows(tmp_path, made)])
    (tmp_path / "all.csv").write_text(text, encoding="utf-8-sig")
    assert len(find_good_images(tmp_path / "all.csv")) == 9
    assert len(find_test_images(tmp_path / "all.csv")) == 12
    assert any("no splits" in note for note in survey(tmp_path / "all.csv").notes)


def test_data_show_says_what_it_found(tmp_path, made):
    ended = run_here("data", "show", data_sets.mvtec_loco(tmp_path, made))
    assert ended.returncode == 0, ended.stderr
    for words in (
        "MVTec LOCO AD",
        "logical_anomalies",
        "sizes: 12 of 64x64",
        "train learns 6 images, eval and report test",
    ):
        assert words in ended.stdout
    mask = next((tmp_path / "ground_truth" / "logical_anomalies").rglob("*.png"))
    write(mask, np.ones((9, 9), bool))
    ended = run_here("data", "show", tmp_path, "--json")
    report = json.loads(ended.stdout)
    assert ended.returncode == 1 and len(report["problems"]) == 1
    assert "(9, 9), the image is (64, 64) (rows, columns)" in report["problems"][0]


def cut(tmp_path, made, make, path):
    data = make(tmp_path, made)
    target = tmp_path / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    return data


def listed(tmp_path, made, header=COLUMNS, **changed):
    """A table whose last row has other cells."""
    rows = table_rows(tmp_path, made)
    rows[-1] = [changed.get(name, cell) for name, cell in zip(COLUMNS, rows[-1], strict=True)]
    return write_csv(tmp_path / "parts.csv", [header, *rows])


WRONG = {
    "LOCO without masks": (
        partial(cut, make=data_sets.mvtec_loco, path="ground_truth"),
        "read as MVTec LOCO AD: 1 of 1 images in .*logical_anomalies have no mask, 009.png first. Expected: train",
    ),
    "LOCO without the masks of an image": (
        partial(cut, make=data_sets.mvtec_loco, path="ground_truth/structural_anomalies/011"),
        "1 of 2 images in .*structural_anomalies have no mask, 011.png first",
    ),
    "AD 2 without masks": (partial(cut, make=data_sets.mvtec_ad_2, path="test_public/ground_truth"), "3 of 3 images"),
    "AD 2 without bad": (partial(cut, make=data_sets.mvtec_ad_2, path="test_public/bad"), "bad: no such folder"),
    "BTAD without masks": (partial(cut, make=data_sets.btad, path="ground_truth/ko"), "3 of 3 images in .*ko have no"),
    "BTAD without test": (partial(cut, make=data_sets.btad, path="test"), "as BTAD: .*test/ko: no such folder"),
    "VisA without its split": (
        partial(cut, make=data_sets.visa, path="split_csv"),
        "1cls.csv is missing. Expected: OBJ",
    ),
    "VisA without masks": (partial(cut, make=data_sets.visa, path="pcb1/Data/Masks"), "3 of 3 masks are missing"),
    "VisA, all objects": (lambda *to: data_sets.visa(*to).parent, "several objects: name the folder of one"),
    "a table without a path": (
        partial(listed, header=["file", *COLUMNS[1:]]),
        "has no column path; it has file, label",
    ),
    "a table with an absolute path": (partial(listed, path="/etc/passwd"), "'/etc/passwd', which lies outside of"),
    "a table that goes up": (partial(listed, path="images/../../x.png"), "which lies outside of"),
    "a table that goes up for a mask": (partial(listed, mask="../x.png"), "which lies outside of"),
    "a table without an image": (partial(listed, path="images/99.png"), "1 of 12 images are missing, .*99.png first"),
    "a table with an image twice": (partial(listed, path="images/000.png"), "000.png is listed 2 times"),
    "a table without a label": (partial(listed, label=""), "row 13 of .* has no label: write good, or the kind"),
    "a table with half a split": (partial(listed, split=""), "1 of 12 images are of no split"),
    "a table with another split": (partial(listed, split="dev"), "row 13 of .* is of the split 'dev': train, valid"),
    "a table with a long label": (partial(listed, label="x" * 101), "is no name of a kind: 1 to 100 characters"),
}


@pytest.mark.parametrize("case", WRONG)
def test_half_a_layout_is_refused_in_words(tmp_path, made, case):
    make, words = WRONG[case]
    data = make(tmp_path, made)
    for read in (find_good_images, find_test_images, survey):
        with pytest.raises(DatasetError, match=words):
            read(data)


def test_masks_that_fit_no_image_are_not_passed_over(tmp_path, made):
    """As in VisA's two-class layout, whose masks lie in ground_truth/test/bad."""
    data = data_sets.visa_one_class(tmp_path, made)
    (data / "ground_truth").rename(tmp_path / "masks")
    assert find_test_images(data)[-1].mask is None  # none at all: the pixel metrics are left out
    (tmp_path / "masks").rename(tmp_path / "ground_truth")
    (data / "ground_truth" / "bad").rename(data / "ground_truth" / "test")
    with pytest.raises(DatasetError, match="holds masks, but none that is called as a test image .*, found test/"):
        find_test_images(data)


def test_a_mask_of_another_size_is_refused(tmp_path, made):
    data = data_sets.visa(tmp_path, made)
    write(next((data / "Data" / "Masks").rglob("*.png")), np.ones((64, 63), bool))
    with pytest.raises(DatasetError, match=r"009.png.*\(64, 63\), the image is \(64, 64\)"):
        evaluate(Brightness(), find_test_images(data))


def test_a_file_that_lists_nothing_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("good")
    with pytest.raises(DatasetError, match="lists no images in a layout edgead knows. Those are MVTec AD 2: "):
        find_good_images(tmp_path / "notes.txt")
    (tmp_path / "empty.csv").write_text("path,label\n")
    with pytest.raises(DatasetError, match="lists no images"):
        find_good_images(tmp_path / "empty.csv")
    (tmp_path / "bad.csv").write_bytes(b"path,label\n\xff\xfe")
    with pytest.raises(DatasetError, match="no text in UTF-8"):
        find_good_images(tmp_path / "bad.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DatasetError, match="is no Parquet file|Parquet needs"):
        find_good_images(tmp_path / "bad.parquet")


def test_a_folder_of_good_images_stays_one(tmp_path, made):
    """A table beside the images, such as one for --group, makes no data set of them."""
    for part in made[:3]:
        write(tmp_path / f"{part.name}.png", part.image)
    write_csv(tmp_path / "groups.csv", [["path", "group"]])
    assert read_layout(tmp_path) is None and len(find_good_images(tmp_path)) == 3
    assert survey(tmp_path).to_dict()["layout"] == "a folder of good images"


def test_layouts_have_names_of_their_own():
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
