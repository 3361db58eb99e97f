"""Test sets as they lie on the disk: judged, and reported on a page."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgead.dataset.folders import LabelledImage, StageProgress, find_test_images
from edgead.dataset.groups import Groups, group_images
from edgead.detector import Detector
from edgead.files.atomic import write_whole
from edgead.report.evaluate import Evaluation, evaluate
from edgead.report.findings import Findings, examine
from edgead.report.forecast import Forecast, forecast_folder
from edgead.report.forecast_page import forecast_page
from edgead.report.page import report_page


def evaluate_folder(detector: Detector, data: Path, group: str, progress: StageProgress) -> Evaluation:
    """Judge the test images of a data set in MVTec layout; see `edgead.report.evaluate.evaluate`."""
    images, groups = _test_set(data, group)
    return evaluate(detector, images, groups=groups, progress=partial(progress, "judge images"))


def report_folder(detector: Detector, data: Path, page: Path, group: str, progress: StageProgress) -> Findings:
    """Judge them and write the page, and the folders that it needs; see `edgead.report.findings.examine`."""
    images, groups = _test_set(data, group)
    found = examine(detector, images, groups=groups, progress=partial(progress, "judge images"))
    names = {"model": detector.artifact.path.resolve().name, "data": data.resolve().name}
    write_whole(page, report_page(detector, found, **names).encode())
    return found


def forecast_made(
    detector: Detector, made: Path, page: Path | None, others: Path | None, progress: StageProgress
) -> Forecast:
    """Judge made defects, and write the page if there is to be one; see `edgead.report.forecast.forecast_folder`."""
    found = forecast_folder(detector, made, others, progress)
    if page is not None:
        names = {"model": detector.artifact.path.resolve().name, "data": made.resolve().name}
        write_whole(page, forecast_page(found, **names).encode())
    return found


def _test_set(data: Path, group: str) -> tuple[list[LabelledImage], Groups]:
    images = find_test_images(data)
    return images, group_images([image.path for image in images], group, data)
