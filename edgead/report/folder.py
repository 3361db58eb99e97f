"""Test sets as they lie on the disk: judged, and reported on a page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from edgead.artifact.training_hashes import content_sha256, find_learnt
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import LabelledImage, StageProgress, find_test_images, no_progress
from edgead.dataset.groups import Groups, group_images
from edgead.dataset.labelled import UNSPLIT
from edgead.dataset.made_sets import MadeSet, read_made
from edgead.detector import Detector
from edgead.detector.in_order import FileJudge
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.report.evaluate import Evaluation, evaluate
from edgead.report.findings import Findings, examine
from edgead.report.forecast import Forecast, Judged, forecast_kind, forecast_page
from edgead.report.page import report_page
from edgead.synthetic.rejects import find_rejects


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


def forecast_folder(
    detector: Detector, folder: Path, others: Path | None = None, progress: StageProgress = no_progress
) -> Forecast:
    """Judge a folder of made defects, and the rejects that they were made of.

    Parameters
    ----------
    detector : Detector
    folder : Path
        With a `made.json`; see `edgead.dataset.made_sets`.
    others : Path, optional
        Folder of further real rejects, FOLDER/KIND/*.png; those that defects were made of are left out.
    progress : callable, optional

    Raises
    ------
    DatasetError
        There is no `made.json`, or it and the folder do not fit.
    """
    _check_thresholds(detector)
    made = read_made(folder)
    calibration = detector.graph.calibration
    assert calibration is not None

    groups = {reject.image: reject.group for reject in made.rejects}

    def judge(stage: str, images: Sequence[tuple[str, str, Path]]) -> dict[str, list[Judged]]:
        """Verdicts by kind of (kind, source, path)."""
        found: dict[str, list[Judged]] = {}
        for done, (kind, source, path) in enumerate(images, 1):
            verdict = detector.predict(detector.read_image(path))
            one = Judged(source, groups.get(source, source), verdict.image_score, verdict.decision == "ok")
            found.setdefault(kind, []).append(one)
            progress(stage, done, len(images))
        return found

    of_made = judge("judge made defects", [(o.kind, o.reject or o.good, folder / o.image) for o in made.images])
    of_real = judge("judge their rejects", [(o.kind, o.image, folder / o.image) for o in made.rejects])
    of_others = judge("judge other rejects", [] if others is None else _others(others, made))
    parts = [folder / name for name in {one.good for one in made.images}]
    return Forecast(
        made.method,
        calibration.reject,
        {
            kind: forecast_kind(ones, of_real.get(kind, ()), calibration.review, of_others.get(kind, ()))
            for kind, ones in sorted(of_made.items())
        },
        len(parts),
        len(find_learnt(detector.artifact, parts)),
    )


def forecast_made(
    detector: Detector, made: Path, page: Path | None, others: Path | None, progress: StageProgress
) -> Forecast:
    """Forecast, and write the page if there is to be one."""
    found = forecast_folder(detector, made, others, progress)
    if page is not None:
        names = {"model": detector.artifact.path.resolve().name, "data": made.resolve().name}
        write_whole(page, forecast_page(found, **names).encode())
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


def _others(folder: Path, made: MadeSet) -> list[tuple[str, str, Path]]:
    """Kind, name and path of the rejects in a folder of which no defect was made."""
    known = {reject.sha256 for reject in made.rejects}
    found = [(kind, path.name, path) for path, kind in find_rejects(folder) if content_sha256(path) not in known]
    kinds = {image.kind for image in made.images}
    if not any(kind in kinds for kind, _, _ in found):
        raise DatasetError(
            f"{folder} holds no further reject of the kinds {', '.join(sorted(kinds))}: its folders must be called as "
            "the kinds are"
        )
    return [one for one in found if one[0] in kinds]
