"""Evaluation: rates, pixel metrics over the region of interest, mistakes, the worst first."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from fakes import TIMES
from rich.console import Console

from edgead.artifact.training_hashes import content_sha256
from edgead.cli.console import evaluation_table
from edgead.dataset.folders import find_test_images
from edgead.images.files import load_image
from edgead.report.evaluate import LONGEST_SIDE_PX, evaluate
from edgead.types import Verdict

ROI = (20, 10, 40, 30)


class Brightness:
    """Takes brightness for anomaly, over the region of interest; rejects what is bright somewhere."""

    def __init__(self, roi=None):
        self.roi = roi
        self.graph = SimpleNamespace(calibration=SimpleNamespace(reject=0.5, volumes=None))

    def read_image(self, path: Path) -> np.ndarray:
        return load_image(path)

    def visible(self, image: np.ndarray) -> np.ndarray:
        return image

    def predict_left_out(self, image: np.ndarray, fold: int | None) -> Verdict:
        assert fold is None  # it has learnt nothing
        return self.predict(image)

    def predict(self, image: np.ndarray) -> Verdict:
        x, y, width, height = self.roi or (0, 0, image.shape[1], image.shape[0])
        anomaly_map = image[y : y + height, x : x + width, 0].astype(np.float32) / 255
        score = float(anomaly_map.max())
        decision = "reject" if score > 0.5 else "ok"
        return Verdict(score, decision, anomaly_map, 0.5, 0.5, (), TIMES, self.roi)


@pytest.fixture
def data(tmp_path) -> Path:
    """Two good images, a dent inside and a dent outside of ROI, and one that Brightness cannot see."""

    def write(place: str, spot: tuple[int, int] | None, value: int) -> None:
        image, mask = np.full((60, 80, 3), 50, np.uint8), np.zeros((60, 80), np.uint8)
        if spot:
            y, x = spot
            image[y : y + 6, x : x + 6], mask[y : y + 6, x : x + 6] = value, 255
        kind, name = place.split("/")
        for folder, drawn in ((tmp_path / "test" / kind, image), (tmp_path / "ground_truth" / kind, mask)):
            folder.mkdir(parents=True, exist_ok=True)
            suffix = ".png" if folder.parent.name == "test" else "_mask.png"
            cv2.imwrite(str(folder / f"{name}{suffix}"), drawn)

    write("good/0", None, 0)
    write("good/1", None, 0)
    write("dent/inside", (20, 30), 200)
    write("dent/outside", (50, 70), 250)
    write("stain/dark", (20, 40), 40)
    return tmp_path


def test_counts_by_hand(data):
    report = evaluate(Brightness(), find_test_images(data)).to_dict()
    assert report["images"] == 5
    passed = {"good_passed": 2, "defects_passed": 1, "good_for_review": 0, "defects_for_review": 0}
    assert report["counts"] == {**passed, "good_rejected": 0, "defects_found": 2}
    assert (report["false_reject_rate"]["count"], report["false_reject_rate"]["total"]) == (0, 2)
    assert (report["escape_rate"]["count"], report["escape_rate"]["total"]) == (1, 3)
    assert report["defect_types"]["dent"]["escape_rate"]["count"] == 0
    assert report["defect_types"]["dent"]["image_AUROC"] == 1
    # The dark stain ties with the good images: 2 of 3 defects above both, one level with them.
    assert report["image_AUROC"] == pytest.approx((2 + 0.5) / 3)


def test_outside_the_region_of_interest_nothing_counts(data):
    outcomes = evaluate(Brightness(ROI), find_test_images(data)).outcomes
    assert {outcome.anomaly_map.shape for outcome in outcomes} == {(30, 40)}
    marked = {outcome.image.path.stem: int(outcome.mask.sum()) for outcome in outcomes}
    assert marked == {"0": 0, "1": 0, "inside": 36, "outside": 0, "dark": 36}


def test_mistakes_come_the_worst_first(data):
    evaluation = evaluate(Brightness(), find_test_images(data))
    assert [outcome.image.path.stem for outcome in evaluation.missed()] == ["dark"]
    assert evaluation.false_rejects() == []
    assert [outcome.image.path.stem for outcome in evaluation.nearest()] == ["inside", "0", "1", "outside"]


def test_where_most_defects_pass_it_says_what_finds_them(data):
    def said(evaluation, **manifest):
        return evaluation._of_defects(SimpleNamespace(manifest=SimpleNamespace(**{"training": {}, **manifest})))

    evaluation, bank = evaluate(Brightness(), find_test_images(data)), SimpleNamespace(grows=True)
    assert said(evaluation, head=bank) == []
    (dark,) = evaluation.missed()
    most = replace(evaluation, outcomes=[*evaluation.outcomes, *[dark] * 2])
    (advice,) = said(most, head=bank)
    assert advice.startswith("3 of 5 defects pass as ok.") and "`edgead teach MODEL --bad DEFECTS`" in advice
    assert said(most, head=SimpleNamespace(grows=False)) == []  # an imported model is not taught
    taught = {"known_defects": [{"sha256": content_sha256(dark.image.path), "kind": "stain"}]}
    assert said(evaluation, head=bank, training=taught)[0].startswith("1 of 3 defects were taught to this model")


def test_without_masks_there_are_no_pixel_metrics(data):
    shutil.rmtree(data / "ground_truth")
    report = evaluate(Brightness(), find_test_images(data)).to_dict()
    assert report["pixel_AUROC"] is report["AUPRO"] is report["AUPIMO"] is None
    assert report["defect_types"]["dent"]["AUPRO"] is None
    text = printed(report)
    assert "0 of 3 defects have masks" in text and "AUPRO" not in text and "pixel_AUROC" not in text


def test_defects_that_have_masks_are_measured_and_types_where_all_have(data):
    whole = evaluate(Brightness(), find_test_images(data)).to_dict()
    (data / "ground_truth" / "dent" / "inside_mask.png").unlink()
    report = evaluate(Brightness(), find_test_images(data)).to_dict()
    assert (whole["defects_with_masks"], report["defects_with_masks"]) == (3, 2)
    assert report["defect_types"]["dent"]["AUPRO"] is None
    assert report["defect_types"]["stain"]["AUPIMO"] == whole["defect_types"]["stain"]["AUPIMO"] == 0
    assert report["AUPRO"] == pytest.approx(1 / 2)  # one dent that is found, one stain that is not
    assert "2 of 3 defects have masks" in printed(report)
    assert re.search(r"found +│ 2 good, 2 dent, 1 stain", printed(report))


def test_a_defect_with_an_empty_mask_is_named(data):
    """Not one whose mask lies outside of the region."""
    cv2.imwrite(str(data / "ground_truth" / "stain" / "dark_mask.png"), np.zeros((60, 80), np.uint8))
    report = evaluate(Brightness(ROI), find_test_images(data)).to_dict()
    assert report["empty_masks"] == [str(data / "test" / "stain" / "dark.png")]
    assert report["escape_rate"]["total"] == 3


def printed(report) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(evaluation_table(report))
    return capture.get()


def test_pixels_type_by_type(data):
    report = evaluate(Brightness(), find_test_images(data)).to_dict()
    dent, stain = report["defect_types"]["dent"], report["defect_types"]["stain"]
    # Both dents are brighter than every good pixel, the stain is darker than all of them.
    assert (dent["AUPRO"], dent["AUPRO_0.05"], dent["AUPIMO"]) == pytest.approx((1, 1, 1))
    assert (stain["AUPRO"], stain["AUPRO_0.05"], stain["AUPIMO"]) == (0, 0, 0)
    assert (report["AUPRO"], report["AUPIMO"]) == pytest.approx((2 / 3, 2 / 3))
    # Of 108 defect pixels 72 are found before any good one: precision 1 up to a recall of 2/3, then 108 of all.
    everything = 5 * 60 * 80
    assert report["pixel_AP"] == pytest.approx(2 / 3 + 108 / everything / 3)
    assert report["pixel_F1Max"] == pytest.approx(2 * 72 / (72 + 108))
    assert (dent["images"], dent["image_F1Max"], stain["image_AP"]) == (2, 1, pytest.approx(1 / 3))
    text = printed(report)
    assert "dent  1.0000 1.0000 1.0000 1.0000 1.0000" in text
    assert "AUPRO to 0.3, to 0.05" in text


def test_a_type_outside_of_the_region_of_interest_has_no_pixel_metrics(data):
    for image in (data / "test" / "dent" / "inside.png", data / "ground_truth" / "dent" / "inside_mask.png"):
        image.unlink()
    types = evaluate(Brightness(ROI), find_test_images(data)).to_dict()["defect_types"]
    assert types["dent"]["AUPIMO"] is types["dent"]["AUPRO"] is None
    assert types["stain"]["AUPIMO"] == 0


def test_large_images_are_measured_smaller(data):
    image = np.full((600, LONGEST_SIDE_PX * 2, 3), 50, np.uint8)
    cv2.imwrite(str(data / "test" / "good" / "0.png"), image)
    shapes = {o.image.path.stem: o.anomaly_map.shape for o in evaluate(Brightness(), find_test_images(data)).outcomes}
    assert shapes["0"] == (300, LONGEST_SIDE_PX)
