"""Test sets as they lie on the disk: judged, and reported on a page."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TypedDict

from edgead.artifact.training_hashes import folds_of_learnt
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import LabelledImage, StageProgress, find_test_images
from edgead.dataset.groups import Groups, group_images
from edgead.detector import Detector
from edgead.detector.in_order import FileJudge
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.heads.nearest import NearestHead
from edgead.report.evaluate import Evaluation, evaluate
from edgead.report.findings import Findings, examine
from edgead.report.page import report_page


def evaluate_folder(
    detector: Detector, data: Path, group: str, progress: StageProgress, *, left_out: bool = False
) -> Evaluation:
    """Judge the test images of a data set that the model has not learnt; see `edgead.report.evaluate.evaluate`.

    With `left_out` those that it has learnt too, each as a stranger, by what the other folds have taught.

    Raises
    ------
    DatasetError
        No good or no defective image is left to measure.
    SettingsError
        The model has no folds to leave out.
    """
    images, known = _test_set(detector, data, group, left_out)
    judge = FileJudge(detector).predict
    evaluation = evaluate(detector, images, progress=partial(progress, "judge images"), judge=judge, **known)
    return evaluation.compared_with(detector)


def report_folder(
    detector: Detector, data: Path, page: Path, group: str, progress: StageProgress, *, left_out: bool = False
) -> Findings:
    """Judge them and write the page, and the folders that it needs; see `edgead.report.findings.examine`."""
    _check_thresholds(detector)
    images, known = _test_set(detector, data, group, left_out)
    found = examine(detector, images, progress=partial(progress, "judge images"), **known)
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


class _Known(TypedDict):
    """Keywords of `evaluate` about a test set: its groups, what is not measured, and folds of what is, as strangers."""

    groups: Groups
    learnt: list[Path]
    folds: dict[Path, int]


def _test_set(detector: Detector, data: Path, group: str, left_out: bool) -> tuple[list[LabelledImage], _Known]:
    artifact, images = detector.artifact, find_test_images(data)
    has_folds = isinstance(detector.manifest.head, NearestHead) and detector.manifest.head.folds > 0
    if left_out and not has_folds:
        raise SettingsError(
            f"{artifact.path} did not learn in folds, and cannot judge what it has learnt as a stranger: leave out "
            "--left-out, and give images that it has not learnt"
        )
    learnt = folds_of_learnt(artifact, [image.path for image in images])
    folds = {path: fold for path, fold in learnt.items() if left_out and fold is not None}
    measured = [image for image in images if image.path not in learnt or image.path in folds]
    for defective, kind in ((False, "good"), (True, "defective")):
        if not any(image.is_defective == defective for image in measured):
            total = sum(image.is_defective == defective for image in images)
            command = shlex.join(["edgead", "eval", str(artifact.path), str(data), "--left-out"])
            way = f", or run `{command}`, which judges each as a stranger" if has_folds and not left_out else ""
            raise DatasetError(
                f"{artifact.path} has learnt all {total} {kind} images of {data}, and none is left to measure: give "
                f"images that it has not learnt{way}"
            )
    groups = group_images([image.path for image in measured], group, data)
    return measured, {"groups": groups, "learnt": [path for path in learnt if path not in folds], "folds": folds}
