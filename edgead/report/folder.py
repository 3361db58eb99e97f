"""Test sets as they lie on the disk: judged, and reported on a page."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgead.artifact.training_hashes import find_learnt
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import LabelledImage, StageProgress, find_test_images
from edgead.dataset.groups import Groups, group_images
from edgead.dataset.labelled import UNSPLIT
from edgead.detector import Detector
from edgead.detector.in_order import FileJudge
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.report.evaluate import Evaluation, evaluate
from edgead.report.findings import Findings, examine
from edgead.report.page import report_page


def evaluate_folder(detector: Detector, data: Path, group: str, progress: StageProgress) -> Evaluation:
    """Judge the test images of a data set in MVTec layout; see `edgead.report.evaluate.evaluate`."""
    images, groups = _test_set(detector, data, group)
    judge = FileJudge(detector).predict
    evaluation = evaluate(detector, images, groups=groups, progress=partial(progress, "judge images"), judge=judge)
    return evaluation.compared_with(detector)


def report_folder(detector: Detector, data: Path, page: Path, group: str, progress: StageProgress) -> Findings:
    """Judge them and write the page, and the folders that it needs; see `edgead.report.findings.examine`."""
    _check_thresholds(detector)
    images, groups = _test_set(detector, data, group)
    found = examine(detector, images, groups=groups, progress=partial(progress, "judge images"))
    names = {"model": detector.artifact.path.resolve().name, "data": data.resolve().name}
    write_whole(page, report_page(detector, found, **names).encode())
    return found


def _check_thresholds(detector: Detector) -> None:
    if detector.manifest.head.in_order:
        raise SettingsError(
            f"{detector.artifact.path} has its limit for cycles, and a report counts images: `edgead eval` measures "
            "it, with a folder of frames in order for each fault"
        )
    if detector.threshold is None:
        raise SettingsError(
            f"{detector.artifact.path} has no thresholds yet, and nothing to report of them: run `edgead calibrate` "
            "with good images first; `edgead eval` measures how well its scores tell defects"
        )


def _test_set(detector: Detector, data: Path, group: str) -> tuple[list[LabelledImage], Groups]:
    images = find_test_images(data)
    good = [image.path for image in images if image.split == UNSPLIT and not image.is_defective]
    learnt = find_learnt(detector.artifact, good)
    if learnt:
        raise DatasetError(
            f"{detector.artifact.path} has learnt {len(learnt)} of the {len(good)} good images of {data}, "
            f"{learnt[0].name} first, and {data} names no splits: say which images are train and which are test, or "
            "test with others"
        )
    return images, group_images([image.path for image in images], group, data)
