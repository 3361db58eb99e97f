"""An exported detector becomes a finished artifact: calibrated on what ships, with golden images.

The held-out good images that thresholds come from are kept too, at the size of the network, or uncut where it sees
tiles: when the memory bank changes later, they are what the thresholds can be made from again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead.artifact.folder import Artifact, write_manifest
from edgead.artifact.manifest import Calibration, Golden, Manifest, Preprocessing
from edgead.calibration.conformal import calibrate
from edgead.dataset.folders import Progress
from edgead.detector import Detector, Measurement
from edgead.heads.nearest import NearestHead
from edgead.images.files import load_image, write_image
from edgead.preprocess import preprocess

GOLDEN_IMAGES = 3

KEPT = "calibration"
# At 320 x 320 pixels each is 0.1 to 0.2 MiB. More held-out images than this are not kept at all: a part of them could
# not support the rates that all of them were held out for.
MOST_KEPT = 200
MOST_KEPT_PIXELS = 200_000_000  # of images that are kept uncut


@dataclass(frozen=True, slots=True)
class CalibrationPlan:
    """Good images and the rates that their thresholds guarantee.

    The images are held out of training, unless they come with `scores` from cross-validation. `groups` has the group of
    each; it is empty where each is its own. At most `most_defective` of them are defective, where nobody has labelled
    them. Without a `false_reject_rate` there are no thresholds yet, and the images are golden parts, which were learnt,
    or what a detector that learns from nothing will see.
    """

    images: Sequence[Path]
    false_reject_rate: float | None
    review_rate: float | None = None
    scores: GoodScores | None = None
    groups: Sequence[int] = ()
    most_defective: float = 0.0


@dataclass(frozen=True, slots=True)
class GoodScores:
    """What a detector says of good images: image scores, and maxima and medians of the maps."""

    scores: list[float]
    maxima: list[float]
    medians: list[float]

    def calibrate(
        self,
        false_reject_rate: float,
        review_rate: float | None,
        *,
        groups: Sequence[int] = (),
        cross_validated: bool = False,
        most_defective: float = 0.0,
    ) -> Calibration:
        """Make thresholds; see `edgead.calibration.conformal.calibrate`."""
        return calibrate(
            self.scores,
            self.maxima,
            self.medians,
            false_reject_rate=false_reject_rate,
            review_rate=review_rate,
            groups=groups,
            cross_validated=cross_validated,
            most_defective=most_defective,
        )


def complete_artifact(
    draft: Path, manifest: Manifest, plan: CalibrationPlan, *, progress: Progress | None = None
) -> GoodScores:
    """Calibrate the detector in `draft` by running it, add golden images and the kept ones, write the manifest.

    Returns
    -------
    GoodScores
        What the thresholds were made from, in the order of the images; without thresholds, of moved golden parts.
    """
    with Detector(Artifact(draft, manifest), runtime="onnxruntime") as detector:
        if plan.false_reject_rate is None:
            return _complete_without_thresholds(detector, draft, plan.images)
        good = plan.scores or measure_good(detector, plan.images, progress)
        golden = _write_golden(detector, plan.images, good.scores, draft)
    cross_validated = plan.scores is not None
    calibration = good.calibrate(
        plan.false_reject_rate,
        plan.review_rate,
        groups=plan.groups,
        cross_validated=cross_validated,
        most_defective=plan.most_defective,
    )
    if not cross_validated:  # thresholds cannot be made again from images that were learnt
        keep_images(draft, manifest, plan.images, good.scores)
    write_manifest(draft, manifest.with_graph("fp32", calibration=calibration, golden=golden))
    return good


def _complete_without_thresholds(detector: Detector, draft: Path, parts: Sequence[Path]) -> GoodScores:
    """Keep golden parts, which lie a little otherwise where they were learnt: they would score 0, and prove nothing."""
    learnt = detector.manifest.learns_from != "nothing"
    golden, paths = [], []
    for number, path in enumerate(parts[:GOLDEN_IMAGES]):
        names = (f"golden/{number}.png", f"golden/{number}.npy")
        paths.append(draft / names[0])
        image = load_image(path)
        write_image(paths[-1], moved(image) if learnt else image)
        golden.append(write_golden(detector, draft, *names))
    good = measure_good(detector, paths)
    calibration = Calibration.none_yet(max(good.maxima), float(np.median(good.medians)))
    write_manifest(draft, detector.manifest.with_graph("fp32", calibration=calibration, golden=golden))
    return good


def moved(image: np.ndarray) -> np.ndarray:
    """Shift a part, uint8 BGR (H, W, 3), by a hundredth of the image, and turn it by 1 degree."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 1.0, 1.0)
    turn[:, 2] += (0.01 * width, 0.01 * height)
    return cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)


def measure_good(detector: Detector, paths: Sequence[Path], progress: Progress | None = None) -> GoodScores:
    """Run the detector over good images; what it says of them becomes thresholds."""
    return collect_scores((detector.measure(load_image(path)) for path in paths), len(paths), progress)


def collect_scores(measured: Iterable[Measurement], total: int, progress: Progress | None = None) -> GoodScores:
    """Take the scores from what a detector says of good images."""
    good = GoodScores([], [], [])
    for done, one in enumerate(measured, 1):
        good.scores.append(one.image_score)
        good.maxima.append(one.map_maximum)
        good.medians.append(float(np.median(one.anomaly_map)))
        if progress:
            progress(done, total)
    return good


def kept_images(artifact: Artifact) -> list[Path]:
    """List the kept images in the order of their scores: lowest first."""
    names = sorted(name for name in artifact.manifest.files if name.startswith(f"{KEPT}/"))
    return [artifact.path / name for name in names]


def keep_images(draft: Path, manifest: Manifest, paths: Sequence[Path], scores: Sequence[float]) -> None:
    """Keep the images that a model with a memory bank was calibrated on, with their fp32 scores, unless too many."""
    if not isinstance(manifest.head, NearestHead) or len(paths) > MOST_KEPT:
        return
    spec = manifest.preprocessing
    if spec.tiles is not None and len(paths) * load_image(paths[0]).size > 3 * MOST_KEPT_PIXELS:
        return
    for rank, pick in enumerate(np.argsort(scores, kind="stable")):
        write_image(draft / KEPT / f"{rank:03d}.png", as_kept(load_image(paths[pick]), spec))


def as_kept(image: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """What is kept of an image, uint8 BGR: what the network sees of it, or all of it where that is cut into tiles."""
    return image if spec.tiles is not None else preprocess(image, spec)[..., ::-1]


def rank_kept(draft: Path, paths: Sequence[Path], scores: Sequence[float]) -> None:
    """Name the kept images of a draft again after their fp32 scores have changed."""
    contents = [path.read_bytes() for path in paths]
    for rank, pick in enumerate(np.argsort(scores, kind="stable")):
        (draft / KEPT / f"{rank:03d}.png").write_bytes(contents[pick])


def _write_golden(detector: Detector, paths: Sequence[Path], scores: Sequence[float], draft: Path) -> list[Golden]:
    """Keep the images with the lowest, the middle and the highest score, losslessly, with what was said of them."""
    order = np.argsort(scores)
    picks = dict.fromkeys(int(order[i]) for i in np.linspace(0, len(order) - 1, GOLDEN_IMAGES).round().astype(int))
    golden = []
    for number, pick in enumerate(picks):
        image = load_image(paths[pick])
        names = (f"golden/{number}.png", f"golden/{number}.npy")
        write_image(draft / names[0], image)
        golden.append(write_golden(detector, draft, *names))
    return golden


def write_golden(detector: Detector, draft: Path, image: str, anomaly_map: str) -> Golden:
    """Write what the detector says of the image of that name in the draft."""
    measured = detector.measure(load_image(draft / image))
    np.save(draft / anomaly_map, measured.anomaly_map, allow_pickle=False)
    return Golden(image=image, anomaly_map=anomaly_map, image_score=measured.image_score)
