"""Layouts of data sets: each is read as it is published, and half of one is refused in words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import data_sets
import numpy as np
import pytest
from command_line import run_here
from data_sets import COLUMNS, table_rows, write, write_csv, write_json
from test_evaluate import Brightness

from edgead.adapt.training import good_images
from edgead.adapt.training.good_images import GoodImages
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import find_good_images, find_test_images, without_test_part
from edgead.dataset.groups import group_images
from edgead.dataset.layouts import kinds
from edgead.dataset.layouts.registry import LAYOUTS, read_layout
from edgead.dataset.masks import (
    add_brush,
    add_file,
    box_corners,
    coco_counts,
    ellipse_corners,
    fill_polygon,
    fill_runs,
    turned,
)
from edgead.dataset.survey import survey
from edgead.errors import SettingsError
from edgead.line.evidence.production.annotations import _defects_of
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
    "YOLO": data_sets.yolo,
    "good beside bad": data_sets.good_and_bad,
    "Datumaro": data_sets.datumaro,
    "LabelMe": data_sets.labelme,
    "Label Studio": data_sets.label_studio,
    "a manifest of Lookout for Vision": data_sets.lookout,
    "a table": data_sets.table,
    "a table, of anomalib": data_sets.anomalib_table,
}
UNSPLIT = ("Label Studio", "a manifest of Lookout for Vision")
"""Of these, what is named is a test set: its good images would be learnt, too."""


@pytest.mark.parametrize("layout", LAID_OUT)
def test_a_layout_is_read_as_it_is_published(tmp_path, made, layout):
    """Good images to learn, all that is to be tested with its masks, and what `data show` says of it."""
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
    assert found["layout"] == layout.split(",")[0]
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
    assert "not used: 1 of unlabelled in the split unlabelled" in found.notes
    assert "not used: 1 of good in the split validation" in found.notes


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
    "LOCO without a kind": (
        partial(cut, make=data_sets.mvtec_loco, path="test/structural_anomalies"),
        "test/structural_anomalies: no such folder",
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
        "has no column path or image_path; it has file, label",
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


def edited(tmp_path, made, make, path, change):
    """A layout of which one JSON file was changed."""
    data = make(tmp_path, made)
    file = tmp_path / path
    content = json.loads(file.read_text().splitlines()[-1])
    change(content)
    write_json(file, content)
    return data


def replaced(tmp_path, made, make, path, old, new):
    """A layout of which the text of one file was changed."""
    data = make(tmp_path, made)
    text = (tmp_path / path).read_text()
    assert old in text
    (tmp_path / path).write_text(text.replace(old, new, 1))
    return data


of_coco = partial(edited, make=data_sets.coco, path="annotations/instances_test.json")
of_datumaro = partial(edited, make=data_sets.datumaro, path="annotations/test.json")
of_labelme = partial(edited, make=data_sets.labelme, path="test/011.json")
of_yolo = partial(replaced, make=data_sets.yolo)
of_studio = partial(edited, make=data_sets.label_studio, path="export.json")
of_lookout = partial(edited, make=data_sets.lookout, path="test.manifest")
of_real_iad = partial(edited, make=data_sets.real_iad, path="realiad_jsons/audiojack.json")
WRONG |= {
    "COCO that is broken": (
        partial(replaced, make=data_sets.coco, path="annotations/instances_test.json", old="{", new="{,"),
        "instances_test.json is no JSON .*Expected: JSON with images, annotations and categories",
    ),
    "COCO with an absolute path": (
        partial(of_coco, change=lambda c: c["images"][0].update(file_name="/x.png")),
        "outside",
    ),
    "COCO that goes up": (
        partial(of_coco, change=lambda c: c["images"][0].update(file_name="../train/../../../x.png")),
        "outside of",
    ),
    "COCO that names the folder of a server": (
        partial(of_coco, change=lambda c: c["images"][0].update(file_name="../../x.png")),
        "1 of 5 images are missing|1 of 12 images are missing",
    ),
    "COCO without a width": (partial(of_coco, change=lambda c: c["images"][0].pop("width")), "images.0.width"),
    "COCO with a huge width": (
        partial(of_coco, change=lambda c: c["images"][0].update(width=1 << 17)),
        "at most 65536",
    ),
    "COCO of an unknown category": (
        partial(of_coco, change=lambda c: c["annotations"][0].update(category_id=9)),
        "an annotation of image 9 and category 9: no such",
    ),
    "COCO with a line for a polygon": (
        partial(of_coco, change=lambda c: c["annotations"][0].update(segmentation=[[0, 0, 1, 1]])),
        "fewer than three corners",
    ),
    "COCO with a corner that sums cannot hold": (
        partial(of_coco, change=lambda c: c["annotations"][0].update(segmentation=[[-1.7e308, 0, 1.7e308, 1, 0, 9]])),
        "annotations.0.segmentation.*at least -1000000000",
    ),
    "COCO with the same id twice": (
        partial(of_coco, change=lambda c: c["images"][0].update(id=9)),
        "same id to several",
    ),
    "COCO without an image": (
        partial(cut, make=data_sets.coco, path="images/test/009.png"),
        "1 of 5 images|1 of 12 im",
    ),
    "YOLO of an unknown class": (
        partial(of_yolo, path="labels/test/009.txt", old="0 ", new="7 "),
        "line 1 of .*009.txt is of class 7: data.yaml names 2",
    ),
    "YOLO with half a box": (
        partial(of_yolo, path="labels/test/009.txt", old="0 ", new="0 0.5\n0 "),
        "line 1 of .*009.txt has 1 values: a box has 4, a polygon 6 or more",
    ),
    "YOLO with no number": (
        partial(of_yolo, path="labels/test/009.txt", old="0 ", new="0 nan "),
        "line 1 of .*009.txt",
    ),
    "YOLO without labels": (
        partial(cut, make=data_sets.yolo, path="labels"),
        "none of 12 images has a file of labels, .*labels/train/000.txt first",
    ),
    "YOLO without an image": (
        partial(cut, make=data_sets.yolo, path="images/train/000.png"),
        "1 of 12 images are missi",
    ),
    "YOLO that goes up": (
        partial(of_yolo, path="data.yaml", old="../images/test", new="../../images/test"),
        "which lies outside of",
    ),
    "YOLO that is broken": (partial(of_yolo, path="data.yaml", old="names:", new="names: ["), "data.yaml is no YAML"),
    "Datumaro with a polyline": (
        partial(of_datumaro, change=lambda c: c["items"][2]["annotations"][0].update(type="polyline")),
        "marks 009.png by a polyline: label, polygon, bbox and mask are read",
    ),
    "Datumaro of an unknown label": (
        partial(of_datumaro, change=lambda c: c["items"][2]["annotations"][0].update(label_id=7)),
        "names label 7 of 3, for 009.png",
    ),
    "LabelMe that is broken": (
        partial(replaced, make=data_sets.labelme, path="test/011.json", old="{", new=""),
        "011.json is no JSON",
    ),
    "LabelMe with a line": (
        partial(of_labelme, change=lambda c: c["shapes"][0].update(shape_type="line")),
        "011.json has a line, which has no area: polygon, rectangle, .* are read",
    ),
    "LabelMe with a circle of three points": (
        partial(of_labelme, change=lambda c: c["shapes"][0].update(shape_type="circle", points=[[1, 1]] * 3)),
        "has a circle of 3 points",
    ),
    "LabelMe that goes up": (partial(of_labelme, change=lambda c: c.update(imagePath="..\\..\\x.png")), "outside of"),
    "LabelMe without a file for an image": (
        partial(cut, make=data_sets.labelme, path="test/007.json"),
        "1 images are not annotated, .*007.png first: save them in the annotation tool, without a shape",
    ),
    "LabelMe with a mask that is none": (
        partial(of_labelme, change=lambda c: c["shapes"][0].update(shape_type="mask", points=[[0, 0]] * 2, mask="*")),
        "a mask that is no base64",
    ),
    "Label Studio with keypoints": (
        partial(of_studio, change=lambda c: c[-1]["annotations"][0]["result"][0].update(type="keypointlabels")),
        "task 5: a result keypointlabels is none of choices, brushlabels, polygonlabels, rect",
    ),
    "Label Studio without a width": (
        partial(of_studio, change=lambda c: c[-1]["annotations"][0]["result"][0]["value"].pop("width")),
        "task 5: a result rectanglelabels has no width",
    ),
    "Label Studio, turned": (
        partial(of_studio, change=lambda c: c[-1]["annotations"][0]["result"][0].update(image_rotation=90)),
        "task 5: annotations.0.result.0.image_rotation",
    ),
    "Label Studio of two people": (
        partial(of_studio, change=lambda c: c[-1]["annotations"].append(c[-1]["annotations"][0])),
        "task 5: 2 annotations of 011.png: keep the one that counts",
    ),
    "Label Studio without an image": (
        partial(of_studio, change=lambda c: c[-1]["data"].update(image="no")),
        "task 5: data must name one image, found 0",
    ),
    "Label Studio, its JSON_MIN": (partial(of_studio, change=lambda c: c[0].pop("annotations")), "task 0: annotations"),
    "Label Studio with a URL that is none": (
        partial(of_studio, change=lambda c: c[-1]["data"].update(image="http://[x/a.png")),
        "task 5, names 'http://.x/a.png', which is no URL",
    ),
    "Label Studio that goes up": (
        partial(of_studio, change=lambda c: c[-1]["data"].update(image="/data/local-files/?d=a/../../../x.png")),
        "which lies outside of",
    ),
    "a manifest without an image": (partial(cut, make=data_sets.lookout, path="009.png"), "1 of 5 images are missing"),
    "a manifest that is broken": (
        partial(replaced, make=data_sets.lookout, path="test.manifest", old="{", new=""),
        "line 1 of .* is no JSON",
    ),
    "a manifest with a long name": (
        partial(of_lookout, change=lambda c: c.update({"source-ref": "x" * 500})),
        "names 'xxx.*: File name too long|images are missing, .*/xxx",  # from Python 3.14 on such a file is not there
    ),
    "a manifest without source-ref": (
        partial(of_lookout, change=lambda c: c.pop("source-ref")),
        "line 1 .* no source-ref",
    ),
    "a manifest with a URL that is none": (
        partial(of_lookout, change=lambda c: c.update({"source-ref": "s3://[bucket/a.png"})),
        "which is no URL",
    ),
    "a manifest that goes up": (
        partial(of_lookout, change=lambda c: c.update({"source-ref": "s3://bucket/../../x.png"})),
        "which lies outside of",
    ),
    "Real-IAD without its list": (
        partial(cut, make=data_sets.real_iad, path="realiad_jsons"),
        "audiojack.json is missing",
    ),
    "Real-IAD without a class": (
        partial(of_real_iad, change=lambda c: c["test"][0].pop("anomaly_class")),
        "audiojack.json: test.0.anomaly_class",
    ),
    "Real-IAD that goes up": (
        partial(of_real_iad, change=lambda c: c["test"][0].update(image_path="../../x.jpg")),
        "which lies outside of",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_half_a_layout_is_refused_in_words(tmp_path, made, case):
    make, words = WRONG[case]
    data = make(tmp_path, made)
    for read in (find_good_images, find_test_images, survey):
        with pytest.raises(DatasetError, match=words):
            read(data)


@pytest.mark.parametrize("content", [b'{"images": [', b"\xff\xff"])
def test_a_damaged_file_is_not_said_to_be_of_a_layout(tmp_path, content):
    file = tmp_path / "listed.json"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match="^[^ ]*listed.json is no (JSON|text in UTF-8)"):
        read_layout(file)


def test_runs_that_do_not_fill_the_image_are_found_by_data_show(tmp_path, made):
    """And where they are read for a metric."""
    data = of_coco(tmp_path, made, change=lambda c: c["annotations"][0]["segmentation"].update(counts=[7, 9]))
    (problem,) = survey(data).problems
    assert "instances_test.json, for 009.png: runs of 16 pixels do not fill 64x64" in problem
    with pytest.raises(DatasetError, match="runs of 16 pixels"):
        evaluate(Brightness(), find_test_images(data))
    data = of_coco(tmp_path / "other", made, change=lambda c: c["images"][2].update(width=60))
    assert "the mask is for (64, 60), the image is (64, 64)" in survey(data).problems[0]


def test_a_file_of_annotations_is_for_what_it_is_named_for(tmp_path, made):
    """Names of Real-IAD's lists and COCO's files say what they are."""
    data_sets.coco(tmp_path / "coco", made)
    assert len(find_good_images(tmp_path / "coco/annotations/instances_train.json")) == 6
    assert len(find_test_images(tmp_path / "coco/annotations/instances_test.json")) == 5
    data_sets.real_iad(tmp_path / "iad", made)
    lists = tmp_path / "iad/realiad_jsons/audiojack.json"
    assert [path.name for path in find_good_images(lists)] == [f"{n:03d}_C{n % 2 + 1}.jpg" for n in range(6)]
    assert group_images(find_good_images(lists), root=lists).count == 3
    shutil.copytree(tmp_path / "iad/realiad_1024", tmp_path / "iad/realiad_512")
    with pytest.raises(DatasetError, match="one folder realiad_.* found realiad_1024, realiad_512: name the object's"):
        find_good_images(lists)


def test_annotations_beside_the_images_of_a_folder_are_read(tmp_path, made):
    data_sets.coco(tmp_path, made)
    data, annotations = tmp_path / "images" / "test", tmp_path / "annotations" / "instances_test.json"
    images = len(list(data.iterdir()))
    (data / "meta.json").write_text("{")  # of another program
    assert len(find_good_images(data)) == images
    shutil.copy(annotations, data / "labels.json")
    good = [part.name for part in made if part.split == "test" and part.kind == "good"]
    assert [path.stem for path in find_good_images(data)] == good and len(good) < images
    assert survey(data).found.layout == "COCO" and len(find_test_images(data)) == images
    shutil.copy(data / f"{good[0]}.png", data / "new.png")
    with pytest.raises(DatasetError, match=r"1 images are not annotated, .*new.png first: .* with --normal-dir, \."):
        find_good_images(data)
    assert len(find_good_images(data, ".")) == images + 1


def test_names_of_label_studio(tmp_path, made):
    """Files that its server was given, and labels of whole images."""
    data = data_sets.label_studio(tmp_path, made)
    tasks = json.loads(data.read_text())
    for task in tasks:
        name = task["data"].pop("image").rpartition("-")[2]
        task["data"] |= {"shown": f"/data/local-files/?d=line/images/{name}", "text": "a note"}
    tasks[-1]["annotations"][0]["result"] = [{"type": "choices", "value": {"choices": ["bent"]}}]
    tasks[-2]["annotations"][0]["result"] = [{"type": "choices", "value": {"choices": ["Good"]}}]
    write_json(data, tasks)
    assert [image.defect for image in find_test_images(data)] == ["good", "good", "stain", "good", "bent"]
    assert find_test_images(data)[-1].mask is None


@pytest.mark.parametrize(
    ("draw", "marked"),
    [
        (partial(fill_polygon, corners=box_corners(1, 2, 3, 4)), 12),
        (partial(fill_polygon, corners=box_corners(-5, -5, 8, 8)), 9),  # what sticks out is cut off
        (partial(fill_polygon, corners=turned(box_corners(10, 10, 6, 2), (10, 10), 90)), 12),
        (partial(fill_polygon, corners=[(0, 0), (20, 0), (0, 20)]), 190),
        (partial(fill_polygon, corners=ellipse_corners(20, 20, 10, 5)), 157),  # pi * 10 * 5
        (
            partial(
                fill_polygon,
                corners=[(0, 0), (20, 0), (20, 20), (0, 20), (0, 0), (5, 5), (5, 15), (15, 15), (15, 5), (5, 5)],
            ),
            300,
        ),
        (partial(fill_runs, counts=[1, 2, 1597]), 2),
    ],
)
def test_shapes_mark_the_pixels_whose_centres_they_hold(draw, marked):
    canvas = np.zeros((40, 40), bool)
    draw(canvas)
    assert abs(int(canvas.sum()) - marked) <= marked // 50


def test_a_mask_in_any_colour_but_black_marks(tmp_path):
    painted = np.zeros((4, 6, 3), np.uint8)
    painted[1, 2:4] = 0, 0, 200  # red
    cv2.imwrite(str(tmp_path / "red.png"), painted)
    canvas = np.zeros((4, 6), bool)
    add_file(canvas, tmp_path / "red.png")
    assert canvas[1, 2:4].all() and canvas.sum() == 2


def test_turned_clockwise_a_box_hangs_down_to_the_left():
    canvas = np.zeros((40, 40), bool)
    fill_polygon(canvas, turned(box_corners(10, 10, 6, 2), (10, 10), 90))
    assert canvas[10:16, 8:10].all() and canvas.sum() == 12


@pytest.mark.parametrize("counts", [[], [1, 5], [-1, 1601], [1600, 1]])
def test_runs_that_do_not_fill_the_image_are_refused(counts):
    with pytest.raises(ValueError, match="do not fill 40x40"):
        fill_runs(np.zeros((40, 40), bool), counts)


@pytest.mark.parametrize("text", ["P", "1" * 3 + "Q" * 13, "\x7f", "é"])
def test_damaged_runs_are_refused(text):
    with pytest.raises(ValueError, match="compressed runs"):
        coco_counts(text)


@pytest.mark.parametrize("cut_off", [b"", b"\x00\x00\x40\x00\x00\x00", b"\xff\xff\xff\xff\x00\x00"])
def test_a_damaged_brush_is_refused(cut_off):
    with pytest.raises(ValueError, match="Label Studio's runs"):
        add_brush(np.zeros((64, 64), bool), cut_off)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["MVTec LOCO AD", "a table", "YOLO"])
def test_a_layout_is_learnt_and_measured(tmp_path, made, layout):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    data, model = LAID_OUT[layout](tmp_path / "data", made), tmp_path / "model"
    options = ("--preset", "fast", "--image-size", 64, "--group", "none")  # three groups are too few for a limit
    ended = run_here("train", data, "-o", model, *options)
    assert ended.returncode == 0, ended.stderr
    folder = data if data.is_dir() else data.parent
    named = json.loads((model / "manifest.json").read_text())["training"]["highest_images"]
    assert named and all(".." not in name and (folder / name).is_file() for name in named)
    ended = run_here("eval", model, data, "--json")
    report = json.loads(ended.stdout)
    assert (report["images"], report["defects_with_masks"]) == (5, 3) and 0 <= report["AUPRO"] <= 1
    ended = run_here("report", model, data, "-o", tmp_path / "report.html")
    assert ended.returncode == 0 and (tmp_path / "report.html").is_file()


@pytest.mark.slow
def test_a_set_without_splits_is_measured_by_left_out_scores(tmp_path, made):
    """Its good images are learnt, and what ships says nothing of them."""
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    rows = [row[:3] for row in table_rows(tmp_path, made)]
    data, model = write_csv(tmp_path / "all.csv", [COLUMNS[:3], *rows]), tmp_path / "model"
    trained = run_here("train", data, "-o", model, "--preset", "fast", "--image-size", 64)
    assert trained.returncode == 0 and f"edgead eval {model} {data} --left-out " in trained.stdout, trained.stderr
    ended = run_here("eval", model, data)
    assert ended.returncode == 2 and "has learnt all 9 good images of" in ended.stderr
    found = json.loads(run_here("eval", model, data, "--left-out", "--json").stdout)
    assert (found["images"], found["false_reject_rate"]["total"], len(found["left_out_images"])) == (12, 9, 9)


@pytest.mark.slow
def test_a_part_of_a_set_without_splits_is_held_out_and_measured(tmp_path, made):
    rows = [row[:3] for row in table_rows(tmp_path, made)]
    data, model = write_csv(tmp_path / "all.csv", [COLUMNS[:3], *rows]), tmp_path / "model"
    options = ("--preset", "fast", "--image-size", 64, "--group", "none", "--false-reject-rate", 0.2)
    trained = run_here("train", data, "-o", model, *options, "--hold-out", 0.2)
    assert trained.returncode == 0 and f"edgead eval {model} {data} " in trained.stdout, trained.stderr
    assert json.loads((model / "manifest.json").read_text())["training"]["training_images"] == 7
    found = json.loads(run_here("eval", model, data, "--json").stdout)
    assert (found["images"], found["false_reject_rate"]["total"], len(found["learnt_images"])) == (5, 2, 7)


def test_a_test_part_is_whole_groups_and_the_same_in_every_training():
    paths, groups = [Path(f"{i}.png") for i in range(20)], [i // 2 for i in range(20)]
    left = without_test_part(paths, groups, 0.25)
    kept = {groups[paths.index(path)] for path in left}
    assert len(left) == 14 and len(kept) == 7 and left == without_test_part(paths, groups, 0.25)
    assert without_test_part(paths, groups, 0) == paths


def test_no_part_is_held_out_of_a_set_that_has_one(tmp_path, made):
    good = GoodImages(LAID_OUT["MVTec LOCO AD"](tmp_path / "data", made), hold_out=0.2)
    with pytest.raises(SettingsError, match="has a test part of its own"):
        good.find()
    with pytest.raises(SettingsError, match="give a share of the good images, such as 0.2"):
        GoodImages(tmp_path, hold_out=20)


def test_images_and_their_test_part_are_looked_for_once(tmp_path, made, monkeypatch):
    rows = [row[:3] for row in table_rows(tmp_path, made)]
    good = GoodImages(write_csv(tmp_path / "all.csv", [COLUMNS[:3], *rows]), hold_out=0.2)
    looked = []
    monkeypatch.setattr(good_images, "find_test_images", lambda data: looked.append(data) or find_test_images(data))
    first = good.find()
    first.clear()  # it is the caller's
    assert len(good.find()) == 9 and looked == [good.data]


def test_a_folder_of_half_a_layout_can_be_named(tmp_path, made):
    data = data_sets.btad(tmp_path, made)
    shutil.rmtree(data / "test")
    learnt = find_good_images(data, "train/ok")
    assert len(learnt) == 6 and group_images(learnt, root=data).count > 1


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
    with pytest.raises(DatasetError, match="lists no images in a layout that edgead knows. The nearest are "):
        find_good_images(tmp_path / "notes.txt")
    unknown = write_json(tmp_path / "unknown.json", {"images": [], "labels": [], "categories": []})
    with pytest.raises(DatasetError, match="The nearest are COCO: .*; Datumaro: .*; ") as said:
        find_good_images(unknown)
    assert sum(f"{layout.name}: " in str(said.value) for layout in LAYOUTS) == 3
    (tmp_path / "empty.csv").write_text("path,label\n")
    with pytest.raises(DatasetError, match="lists no images"):
        find_good_images(tmp_path / "empty.csv")
    (tmp_path / "bad.csv").write_bytes(b"path,label\n\xff\xfe")
    with pytest.raises(DatasetError, match="no text in UTF-8"):
        find_good_images(tmp_path / "bad.csv")


def peak_bytes_of_reading(file: Path, says: str) -> int:
    """The memory that a process takes, beyond its modules, until it refuses a file."""
    program = f"""
import re
from pathlib import Path
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import find_good_images
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10
before = peak()
try:
    find_good_images(Path({str(file)!r}))
except DatasetError as error:
    print(peak() - before, error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert says in ended.stdout, ended.stdout + ended.stderr
    return int(ended.stdout.split()[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="MEMORY IS NOT TESTED: this system has no /proc")
def test_a_table_of_millions_of_rows_is_refused_before_it_is_parsed(tmp_path):
    (tmp_path / "p.csv").write_text("path,label\n" + "a.png,good\n" * 3_000_000)
    assert peak_bytes_of_reading(tmp_path / "p.csv", "3000000 rows or more, at most 1000000") < 150 << 20


def test_a_folder_of_good_images_stays_one(tmp_path, made):
    """A table beside the images, such as one for --group, makes no data set of them."""
    for part in made[:3]:
        write(tmp_path / f"{part.name}.png", part.image)
    write_csv(tmp_path / "groups.csv", [["path", "group"]])
    assert read_layout(tmp_path) is None and len(find_good_images(tmp_path)) == 3
    assert survey(tmp_path).to_dict()["layout"] == "a folder of images"


def test_a_plain_folder_is_taken_as_good_and_tested_with_by_nothing(tmp_path, made):
    for number in range(3):
        for word in ("crack", "good"):
            write(tmp_path / f"{word}_{number}.png", made[0].image)
    found = survey(tmp_path)
    report = found.to_dict()
    assert (report["learnt"], report["tested"]) == (6, 0)
    assert [row["kind"] for row in report["splits"]] == ["taken as good"]
    assert found.notes == [
        "6 images, taken as good: nothing says so",
        "names begin with different words (3 with crack, 3 with good): images of defects may lie among them",
    ]
    ended = run_here("data", "show", tmp_path)
    assert "edgead screen" in ended.stdout and "test with 6" not in ended.stdout
    for path in tmp_path.glob("crack_*"):
        path.unlink()
    assert survey(tmp_path).notes == ["3 images, taken as good: nothing says so"]
    write(tmp_path / "001.png", made[0].image)  # a name without a word says nothing of the others
    assert len(survey(tmp_path).notes) == 1


def test_a_test_set_alone_is_shown_as_one(tmp_path, made):
    for folder in ("good", "crack", "ground_truth/crack"):
        image = np.full((64, 64), 255, np.uint8) if "truth" in folder else made[0].image
        write(tmp_path / folder / "0.png", image)
    found = survey(tmp_path)
    report = found.to_dict()
    assert (report["layout"], report["learnt"], report["tested"]) == ("a test set", 0, 2)
    assert [(row["split"], row["kind"], row["masks"]) for row in found.rows()] == [
        ("test", "good", 0),
        ("test", "crack", 1),
    ]
    assert any("serves eval and report, not train" in note for note in found.notes)
    ended = run_here("data", "show", tmp_path)
    assert ended.returncode == 0 and f"edgead eval MODEL {tmp_path}" in ended.stdout.replace("\n", "")
    shutil.rmtree(tmp_path / "crack")
    with pytest.raises(DatasetError, match="no folder train/good"):
        survey(tmp_path)


def test_layouts_have_names_of_their_own():
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_a_kind_that_is_called_good_returns_as_a_defect():
    """Of `edgead evidence export --format coco`, which must not write what is read as no defect."""
    row = SimpleNamespace(
        mark_verdict=None,
        decision="reject",
        image_score=1.0,
        shown_kind=None,
        boxes=[{"x": 1, "y": 1, "width": 2, "height": 2, "peak": 1.0}],
    )
    categories: dict[str, int] = {}
    for name in [*kinds.GOOD_NAMES, "Good", "dent"]:
        row.shown_kind = name
        _defects_of(row, {"id": 1, "width": 9, "height": 9}, categories, 1)
    assert "dent" in categories and len(categories) == 5
    assert all(kinds.kind_of([name]) == name for name in categories)
