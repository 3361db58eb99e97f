"""Finished artifact from an exported detector: calibrated with the graph that ships, with golden images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from edgead.adapt.highest import with_highest
from edgead.adapt.kept_images import keep_images
from edgead.adapt.workers import in_order, share_cores
from edgead.artifact.camera_view import ViewMeter
from edgead.artifact.folder import Artifact, write_manifest
from edgead.artifact.manifest import Calibration, CalibrationMethod, CameraView, Golden, Manifest
from edgead.calibration.conformal import calibrate, images_needed
from edgead.calibration.volumes import calibrate_volumes
from edgead.dataset.folders import Progress
from edgead.dataset.volumes import volume_scores
from edgead.detector import Detector, Measurement
from edgead.images.files import has_depth, lossless_suffix, write_image
from edgead.images.volumes import volume_of

GOLDEN_IMAGES = 3
MAX_VIEWS = 400
FEWEST_SHARED = 20  # images from which opening more detectors pays


@dataclass(frozen=True, slots=True)
class CalibrationPlan:
    """Good images and the rates that their thresholds guarantee.

    The images are not learnt, unless they have `folds` (each is scored as if its fold had not been learnt) or `scores`
    from cross-validation. `groups` has the group of each image; it is empty if every image is a group of its own.
    Without a `false_reject_rate` no thresholds are made; the images then become golden images. If the images have
    `names`, the manifest lists the names of the images that score highest.
    """

    images: Sequence[Path]
    false_reject_rate: float | None
    review_rate: float | None = None
    scores: GoodScores | None = None
    groups: Sequence[int] = ()
    folds: Sequence[int] = ()
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class GoodScores:
    """Results of a detector on good images: image scores, and maxima and medians of the anomaly maps.

    `method` names the calibration method, if the model has learnt from the images.
    """

    scores: list[float]
    maxima: list[float]
    medians: list[float]
    method: CalibrationMethod | None = None

    def collecting(self, measured: Iterable[Measurement]) -> Iterator[Measurement]:
        """Store the scores of each measurement, and pass it on."""
        for one in measured:
            self.scores.append(one.image_score)
            self.maxima.append(one.map_maximum)
            self.medians.append(float(np.median(one.anomaly_map)))
            yield one

    def calibrate(
        self,
        false_reject_rate: float,
        review_rate: float | None,
        *,
        groups: Sequence[int] = (),
        paths: Sequence[Path] = (),
    ) -> Calibration:
        """Make thresholds; see `edgead.calibration.conformal.calibrate`.

        With `paths`, the images may be slices of volumes: whole volumes get thresholds of their own, if there are
        enough volumes for the rates.
        """
        found = calibrate(
            self.scores,
            self.maxima,
            self.medians,
            false_reject_rate=false_reject_rate,
            review_rate=review_rate,
            groups=groups,
            method=self.method,
        )
        volumes = volume_scores(paths, self.scores) if paths else {}
        group_of = dict(zip(map(volume_of, paths), groups, strict=True)) if volumes and groups else {}
        of_volumes = [group_of[volume] for volume in volumes if group_of]
        if images_needed(false_reject_rate) > len(set(of_volumes) or volumes):
            return found
        scores = [one.score for one in volumes.values()]
        limits = calibrate_volumes(scores, found.false_reject_rate, found.review_rate, of_volumes)
        return found.model_copy(update={"volumes": limits})


def complete_artifact(
    draft: Path, manifest: Manifest, plan: CalibrationPlan, *, progress: Progress | None = None
) -> GoodScores:
    """Calibrate the detector in `draft` by running it, add golden images and kept images, write the manifest.

    Returns the scores that make the thresholds, in the order of the images; without thresholds, of golden images.
    """
    with Detector(Artifact(draft, manifest)) as detector:  # no engine is built yet, so the graph itself runs
        if plan.false_reject_rate is None:
            return _complete_without_thresholds(detector, draft, plan.images)
        good = plan.scores or measure_good(detector, plan.images, progress, folds=plan.folds)
        golden = _write_golden(detector, plan.images, good, draft)
        views = measure_views(detector, plan.images, [draft / one.image for one in golden], plan.groups)
    calibration = good.calibrate(
        plan.false_reject_rate,
        plan.review_rate,
        groups=plan.groups,
        paths=plan.images,
    )
    if plan.names:
        training = with_highest(manifest.training, plan.names, good.scores, calibration)
        manifest = manifest.model_copy(update={"training": training})
    if plan.scores is None:  # scores of cross-validation come from detectors that are not shipped
        kept = keep_images(
            draft,
            manifest,
            plan.images,
            good.scores,
            false_reject_rate=calibration.false_reject_rate,
            groups=plan.groups,
            folds=plan.folds,
        )
        manifest = manifest.model_copy(update={"kept": kept})
    manifest = manifest.model_copy(update={"views": views})
    write_manifest(draft, manifest.with_graph(manifest.learnt_in, calibration=calibration, golden=golden))
    return good


def measure_views(
    detector: Detector, paths: Sequence[Path], golden: Sequence[Path], groups: Sequence[int] = ()
) -> list[CameraView]:
    """Measure how the camera took good images, one of each group, for the drift watch; leave out other image sizes."""
    meter = ViewMeter([detector.visible(detector.read_image(path)) for path in golden])
    first = dict(zip(reversed(groups or range(len(paths))), reversed(paths), strict=True))
    images = (detector.visible(detector.read_image(path)) for path in list(first.values())[:MAX_VIEWS])
    views = [meter.measure(image) for image in images]
    return [view for view in views if view is not None]


def _complete_without_thresholds(detector: Detector, draft: Path, parts: Sequence[Path]) -> GoodScores:
    """Keep golden images, without thresholds; learnt images are moved a little, or they would score 0."""
    learnt = detector.manifest.learns_from != "nothing"
    golden, paths = [], []
    for number, path in enumerate(parts[:GOLDEN_IMAGES]):
        image = detector.read_image(path)
        names = (f"golden/{number}{lossless_suffix(image)}", f"golden/{number}.npy")
        paths.append(draft / names[0])
        write_image(paths[-1], moved(image) if learnt else image)
        golden.append(write_golden(detector, draft, *names))
    good = measure_good(detector, paths)
    calibration = Calibration.none_yet(max(good.maxima), float(np.median(good.medians)))
    write_manifest(
        draft, detector.manifest.with_graph(detector.manifest.learnt_in, calibration=calibration, golden=golden)
    )
    return good


def moved(image: np.ndarray) -> np.ndarray:
    """Shift a part, uint8 BGR (H, W, 3), by a hundredth of the image, and turn it by 1 degree.

    Heights, (H, W), are taken from the nearest pixel, as there is nothing between a height and a hole.
    """
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 1.0, 1.0)
    turn[:, 2] += (0.01 * width, 0.01 * height)
    between = cv2.INTER_NEAREST if has_depth(image) else cv2.INTER_LINEAR
    return cv2.warpAffine(image, turn, (width, height), flags=between, borderMode=cv2.BORDER_REFLECT_101)


def measure_good(
    detector: Detector, paths: Sequence[Path], progress: Progress | None = None, *, folds: Sequence[int] = ()
) -> GoodScores:
    """Run the detector over good images and return the scores that thresholds are made from.

    With `folds` (the fold of each image), an image is scored as if its fold had not been learnt.
    """
    good = collect_scores(each_measured(detector, paths, folds), len(paths), progress)
    return replace(good, method="cross_conformal") if len(folds) else good


def each_measured(detector: Detector, paths: Sequence[Path], folds: Sequence[int] = ()) -> Iterator[Measurement]:
    """Score images, several at once on a CPU; see `measure_good`."""

    def measure(worker: Detector, one: tuple[Path, int | None]) -> Measurement:
        return worker.measure_left_out(worker.read_image(one[0]), one[1])

    images = zip(paths, folds if len(folds) else [None] * len(paths), strict=True)
    with ExitStack() as opened:
        alone = detector.runtime != "onnxruntime" or len(paths) < FEWEST_SHARED
        workers = (
            [detector] if alone else [opened.enter_context(detector.again(each)) for each in share_cores(len(paths))]
        )
        yield from in_order(workers, measure, images)


def collect_scores(measured: Iterable[Measurement], total: int, progress: Progress | None = None) -> GoodScores:
    """Collect the scores of all measurements of good images."""
    good = GoodScores([], [], [])
    for done, _ in enumerate(good.collecting(measured), 1):
        if progress:
            progress(done, total)
    return good


def _write_golden(detector: Detector, paths: Sequence[Path], good: GoodScores, draft: Path) -> list[Golden]:
    """Keep the images with the lowest, middle and highest score, losslessly, with their anomaly maps and scores.

    Learnt images are moved a little: with their own patches in the memory bank they would score 0 and prove nothing.
    """
    order = np.argsort(good.scores)
    picks = dict.fromkeys(int(order[i]) for i in np.linspace(0, len(order) - 1, GOLDEN_IMAGES).round().astype(int))
    golden = []
    for number, pick in enumerate(picks):
        image = detector.read_image(paths[pick])
        names = (f"golden/{number}{lossless_suffix(image)}", f"golden/{number}.npy")
        write_image(draft / names[0], image if good.method is None else moved(image))
        golden.append(write_golden(detector, draft, *names))
    return golden


def write_golden(detector: Detector, draft: Path, image: str, anomaly_map: str) -> Golden:
    """Score an image of the draft as a golden image: write its anomaly map, return its record."""
    measured = detector.measure(detector.read_image(draft / image))
    np.save(draft / anomaly_map, measured.anomaly_map, allow_pickle=False)
    return Golden(image=image, anomaly_map=anomaly_map, image_score=measured.image_score)
