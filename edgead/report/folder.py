"""Evaluation of test sets on disk, and their report page."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgead.artifact.training_hashes import folds_of_learnt
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import StageProgress, find_test_images
from edgead.dataset.groups import AUTO, FOLDERS, group_images
from edgead.detector import Detector
from edgead.detector.in_order import FileJudge
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.report.evaluate import Evaluation, evaluate
from edgead.report.findings import Findings, examine
from edgead.report.page import report_page


def evaluate_folder(
    detector: Detector, data: Path, group: str, progress: StageProgress, *, left_out: bool = False
) -> Evaluation:
    """Judge the test images of a data set that the model has not learnt; see `edgead.report.evaluate.evaluate`.

    With `left_out`, learnt images are judged too, each without its own fold.

    Raises DatasetError, SettingsError: no good or no defective image is left to measure or can be read, or the model
        did not learn in folds.
    """
    model, images = detector.artifact, find_test_images(data)
    in_folds = model.manifest.head.leaves_out(0)
    if left_out and not in_folds:
        raise SettingsError(
            f"{model.path} did not learn in folds, and cannot judge what it has learnt as a stranger: leave out "
            "--left-out, and give images that it has not learnt"
        )
    learnt = folds_of_learnt(model, [image.path for image in images])
    taken_for_good = [image.path for image in images if image.is_defective and image.path in learnt]
    learnt = {path: fold for path, fold in learnt.items() if path not in taken_for_good}
    folds = {path: fold for path, fold in learnt.items() if left_out and fold is not None}
    measured = [image for image in images if image.path not in learnt or image.path in folds]
    if all(image.is_defective for image in measured) and learnt:
        command = shlex.join(["edgead", "eval", str(model.path), str(data), "--left-out"])
        way = f", or run `{command}`, which judges each as a stranger" * (in_folds and not left_out)
        raise DatasetError(
            f"{model.path} has learnt all {len(learnt)} good images of {data}, and none is left to measure: give "
            f"images that it has not learnt{way}"
        )
    if group not in (AUTO, FOLDERS):  # a wrong one is reported at once
        group_images([image.path for image in measured], group, data)
    found = evaluate(
        detector,
        measured,
        progress=partial(progress, "judge images"),
        judge=FileJudge(detector).predict,
        learnt=[path for path in learnt if path not in folds],
        taken_for_good=taken_for_good,
        folds=folds,
    )
    for defective, kind in ((False, "good"), (True, "defective")):
        if found.unreadable and not any(one.image.is_defective == defective for one in found.outcomes):
            raise DatasetError(f"no {kind} image of {data} can be read and measured: {found.warnings()[0]}")
    groups = group_images([one.image.path for one in found.outcomes], group, data)
    return replace(found, groups=groups).compared_with(detector)


def report_folder(
    detector: Detector, data: Path, page: Path, group: str, progress: StageProgress, *, left_out: bool = False
) -> Findings:
    """Judge a data set and write its report page, making folders as needed; see `edgead.report.findings.examine`."""
    if detector.manifest.head.in_order:
        raise SettingsError(
            f"{detector.artifact.path} has its limit for cycles, and a report counts images: `edgead eval` measures "
            "it, with a folder of frames in order for each fault"
        )
    if page.is_dir():
        raise SettingsError(f"{page} is a folder: name a file for the page, such as {page / 'report.html'}")
    if detector.threshold is None:
        raise SettingsError(
            f"{detector.artifact.path} has no thresholds yet, and nothing to report of them: run `edgead calibrate` "
            "with good images first; `edgead eval` measures how well its scores tell defects"
        )
    found = examine(detector, evaluate_folder(detector, data, group, progress, left_out=left_out))
    names = {"model": detector.artifact.path.resolve().name, "data": data.resolve().name}
    write_whole(page, report_page(detector, found, **names).encode())
    return found
