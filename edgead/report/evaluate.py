"""Evaluation of a detector on a test set with known defects: metrics, rates per defect type, the worst cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgead import metrics
from edgead.artifact.manifest import VolumeCalibration
from edgead.artifact.training_hashes import count_taught
from edgead.calibration.cause_of_rejects import cause_of
from edgead.dataset.folders import GOOD, LabelledImage, Progress, common_folder, name_in, resize_map, tell_unreadable
from edgead.dataset.groups import Groups
from edgead.dataset.volumes import VolumeVerdict, judge_volumes
from edgead.detector import Detector
from edgead.detector.golden_likeness import unlike_golden
from edgead.images.files import ImageError
from edgead.images.likeness import Look, look_of
from edgead.types import DECISIONS, Decision, StageTimes, Verdict

# Pixel metrics are computed at the size of the image, reduced to at most this many pixels on its longer side,
# as the maps of all images are in memory together.
LONGEST_SIDE_PX = 1024
_FEWEST_DEFECTS = 5  # from which on it is said that most of them pass

REGION_METRICS = ("AUPRO", "AUPRO_0.05", "AUPIMO")
PIXEL_METRICS = ("pixel_AUROC", "pixel_AP", "pixel_F1Max", "pixel_F1Max_threshold", *REGION_METRICS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Verdict on one test image; map and mask have the same shape, the mask may be None.

    With a `fold`, the detector learnt the image as part of that fold, and the verdict was made without the fold.
    """

    image: LabelledImage
    image_score: float
    decision: Decision
    anomaly_map: np.ndarray
    mask: np.ndarray | None
    fold: int | None = None
    stage_times: StageTimes | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation:
    """Evaluation of a test set: all outcomes; with `groups`, intervals treat images of one group as dependent.

    `empty_masks` are defective images whose masks mark nothing; they still count as defects. `of_volumes` has the
    thresholds of whole volumes. `learnt` are good images of the set that the detector has learnt from: they are not
    among the outcomes, as they would make the figures too good. `taken_for_good` are defective images that it has
    learnt as good; they are measured like all defects. `looks` has the look of each image, by name; `unlike` are
    warnings on images that differ from those the detector knows. `advice` is the likely cause of too many rejected good
    parts and the next step; see `edgead.calibration.cause_of_rejects`. `unreadable` has the fault of each image that
    cannot be read, and is not among the outcomes.
    """

    outcomes: Sequence[Outcome]
    threshold: float
    groups: Groups | None = None
    empty_masks: Sequence[Path] = ()
    of_volumes: VolumeCalibration | None = None
    learnt: Sequence[Path] = ()
    taken_for_good: Sequence[Path] = ()
    looks: Mapping[str, Look] = field(default_factory=dict)
    unlike: Sequence[str] = ()
    advice: str = ""
    unreadable: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Convert the metrics to plain JSON types.

        Pixel metrics of the set use the images with masks, and are None if there are none. Pixel metrics of a type are
        None if any of its images has no mask.
        """
        labels = np.array([outcome.image.is_defective for outcome in self.outcomes])
        scores = np.array([outcome.image_score for outcome in self.outcomes])
        f1, f1_threshold = metrics.f1_max(labels, scores)
        good = self.of_kind(GOOD)
        defective = [outcome for outcome in self.outcomes if outcome.image.is_defective]
        pixel_metrics, of_types = self._pixel_metrics()
        return {
            "images": len(self.outcomes),
            "counts": self.counts(),
            "groups": len(self.outcomes) if self.groups is None else self.groups.count,
            "groups_account": "each image counts alone" if self.groups is None else self.groups.account,
            "empty_masks": [str(path) for path in self.empty_masks],
            "learnt_images": [str(path) for path in self.learnt],
            "left_out_images": [str(path) for path in self.left_out()],
            "learnt_account": self.learnt_account(),
            "unreadable_images": list(self.unreadable),
            "warnings": self.warnings(),
            "advice": self.advice,
            "defects_with_masks": sum(one.image.is_defective for one in self.masked()),
            "image_AUROC": metrics.auroc(labels, scores),
            "image_AP": metrics.average_precision(labels, scores),
            "image_F1Max": f1,
            "image_F1Max_threshold": f1_threshold,
            **pixel_metrics,
            "threshold": self.threshold,
            "false_reject_rate": self._rate(good, "reject"),
            "review_rate_good": self._rate(good, "review"),
            "escape_rate": self._rate(defective, "ok"),
            "defect_types": {kind: {**self._of_type(kind, good), **of_types[kind]} for kind in self.kinds()},
            **self._volumes(),
        }

    def counts(self) -> dict[str, int]:
        """Count good and defective images by their decisions; those for review are neither passed nor rejected."""
        names = {
            False: ("good_passed", "good_for_review", "good_rejected"),
            True: ("defects_passed", "defects_for_review", "defects_found"),
        }
        found = Counter((one.image.is_defective, one.decision) for one in self.outcomes)
        return {name: found[kind, of] for kind in names for name, of in zip(names[kind], DECISIONS, strict=True)}

    def compared_with(self, detector: Detector) -> Evaluation:
        """Return a copy with warnings on images unlike the model's golden ones, and advice on too many rejects."""
        images, unlike = [outcome.image.path for outcome in self.outcomes], unlike_golden(detector, self.looks)
        good, top, model = self.of_kind(GOOD), common_folder(images), detector.artifact.path
        names, scores = [name_in(top, one.image.path) for one in good], [one.image_score for one in good]
        groups, graph = self.groups_of(good), detector.graph
        several = detector.manifest.of_several
        cause = cause_of(names, scores, graph, model, groups=groups, unlike=bool(unlike), of_several=several)
        return replace(self, unlike=[*unlike, *self._of_defects(detector)], advice="" if cause is None else cause.said)

    def _of_defects(self, detector: Detector) -> list[str]:
        """Say how many defects the model was taught, and what to do if most of them pass."""
        found = []
        paths = [one.image.path for one in self.outcomes if one.image.is_defective]
        if taught := count_taught(detector.manifest, paths):
            found.append(
                f"{taught} of {len(paths)} defects were taught to this model as known ones: their figures say nothing "
                "of new defects; measure others"
            )
        missed = len(self.missed())
        if detector.manifest.head.grows and len(paths) >= _FEWEST_DEFECTS and missed > len(paths) / 2:
            found.append(
                f"{missed} of {len(paths)} defects pass as ok. What is small or faint needs more pixels: train with "
                "--preset default or fine. Or teach some with `edgead teach MODEL --bad DEFECTS`, and measure the rest"
            )
        return found

    def left_out(self) -> list[Path]:
        """List the learnt images among the outcomes, each judged without its own fold."""
        return [outcome.image.path for outcome in self.outcomes if outcome.fold is not None]

    def learnt_account(self) -> str:
        """Describe how many images of the set the detector has learnt, and how they are treated; empty if none."""
        said = []
        if strangers := self.left_out():
            said.append(
                f"{len(strangers)} images were learnt by this model and are judged by left-out scores, as strangers: "
                "where the limit was made from these scores, their false rejects say nothing of new parts"
            )
        if self.learnt:
            first = self.learnt[0].name
            said.append(f"{len(self.learnt)} images were learnt by this model and are not measured, {first} first")
        return "; ".join(said)

    def warnings(self) -> list[str]:
        """List warnings that limit the meaning of the figures."""
        found = [*tell_unreadable(self.unreadable, len(self.outcomes)), *self.unlike]
        if self.taken_for_good:
            first = Path(*self.taken_for_good[0].parts[-2:])
            found.append(
                f"{len(self.taken_for_good)} defective images of this set were learnt as good, {first} first: defects "
                "like them pass; take them out of the good images and train again"
            )
        if self.empty_masks:
            found.append(
                f"the masks of {len(self.empty_masks)} defective images mark nothing, such as that of "
                f"{self.empty_masks[0]}: they count as defects, and as escapes where they pass; if they are good, move "
                "them to test/good"
            )
        return found

    def volumes(self) -> list[tuple[bool, VolumeVerdict]]:
        """Judge whole volumes if the images are slices; lists (whether it is from a folder of defects, verdict)."""
        paths, scores = [one.image.path for one in self.outcomes], [one.image_score for one in self.outcomes]
        return [(one.volume.parent.name != GOOD, one) for one in judge_volumes(paths, scores, self.of_volumes)]

    def __repr__(self) -> str:
        labels = np.array([outcome.image.is_defective for outcome in self.outcomes])
        auroc = metrics.auroc(labels, np.array([outcome.image_score for outcome in self.outcomes]))
        defects = int(labels.sum())
        return (
            f"Evaluation({labels.size} images, image AUROC {auroc:.3f}, {len(self.false_rejects())} of "
            f"{labels.size - defects} good parts rejected, {len(self.missed())} of {defects} defects passed as ok"
            f"{'; '.join(['', *filter(None, [self.learnt_account(), self.advice])])})"
        )

    def kinds(self) -> list[str]:
        return sorted({outcome.image.defect for outcome in self.outcomes if outcome.image.is_defective})

    def masked(self) -> list[Outcome]:
        """List the outcomes for pixel metrics: good parts, and defects with a mask."""
        return [outcome for outcome in self.outcomes if outcome.mask is not None]

    def pixels(self) -> metrics.Pixels:
        """Prepare the maps and masks of `masked` for pixel metrics."""
        pairs = [(one.anomaly_map, one.mask) for one in self.outcomes if one.mask is not None]
        return metrics.Pixels([anomaly_map for anomaly_map, _ in pairs], [mask for _, mask in pairs])

    def missed(self) -> list[Outcome]:
        """List defects that were judged ok, the lowest score first."""
        found = [one for one in self.outcomes if one.image.is_defective and one.decision == "ok"]
        return sorted(found, key=lambda one: one.image_score)

    def false_rejects(self) -> list[Outcome]:
        """List good parts that were rejected, the highest score first."""
        found = [one for one in self.of_kind(GOOD) if one.decision == "reject"]
        return sorted(found, key=lambda one: -one.image_score)

    def nearest(self) -> list[Outcome]:
        """List correct outcomes, those nearest to the threshold first."""
        wrong = {id(one) for one in (*self.missed(), *self.false_rejects())}
        right = [one for one in self.outcomes if id(one) not in wrong]
        return sorted(right, key=lambda one: abs(one.image_score - self.threshold))

    def rate_of(self, outcomes: Sequence[Outcome], decision: Decision) -> metrics.Rate:
        """Compute the share of the outcomes with a decision."""
        return metrics.Rate.of_groups([one.decision == decision for one in outcomes], self.groups_of(outcomes))

    def rate_above(self, outcomes: Sequence[Outcome], limit: float) -> metrics.Rate:
        """Compute the share of the outcomes that a limit would reject."""
        return metrics.Rate.of_groups([one.image_score > limit for one in outcomes], self.groups_of(outcomes))

    def _volumes(self) -> dict[str, Any]:
        """Convert the results of whole volumes for `to_dict`; empty without volumes."""
        judged = self.volumes()
        if not judged:
            return {}
        defective = np.array([is_defective for is_defective, _ in judged])
        both = 0 < defective.sum() < len(judged)
        limits = self.of_volumes
        rates = {
            name: metrics.Rate.of_groups([one.decision == decision for bad, one in judged if bad == of_bad], None)
            for name, of_bad, decision in (("false_reject_rate", False, "reject"), ("escape_rate", True, "ok"))
        }
        return {
            "volumes": {
                "volumes": len(judged),
                "AUROC": metrics.auroc(defective, np.array([one.score for _, one in judged])) if both else None,
                "threshold": None if limits is None else limits.reject,
                **{
                    name: None if limits is None else {**asdict(rate), "rate": rate.rate}
                    for name, rate in rates.items()
                },
                "verdicts": [
                    {"defective": is_defective, "kind": one.volume.parent.name, **one.to_dict()}
                    for is_defective, one in judged
                ],
            }
        }

    def _rate(self, outcomes: Sequence[Outcome], decision: Decision) -> dict[str, Any]:
        rate = self.rate_of(outcomes, decision)
        return {**asdict(rate), "rate": rate.rate}

    def of_kind(self, kind: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.image.defect == kind]

    def groups_of(self, outcomes: Sequence[Outcome]) -> list[int] | None:
        """Return the group of each outcome; None if every image counts alone."""
        return None if self.groups is None else self.groups.of(one.image.path for one in outcomes)

    def _of_type(self, kind: str, good: list[Outcome]) -> dict[str, Any]:
        outcomes = self.of_kind(kind)
        labels = np.array([False] * len(good) + [True] * len(outcomes))
        scores = np.array([outcome.image_score for outcome in [*good, *outcomes]])
        return {
            "images": len(outcomes),
            "image_AUROC": metrics.auroc(labels, scores),
            "image_AP": metrics.average_precision(labels, scores),
            "image_F1Max": metrics.f1_max(labels, scores)[0],
            "escape_rate": self._rate(outcomes, "ok"),
        }

    def _pixel_metrics(self) -> tuple[dict[str, float | None], dict[str, dict[str, float | None]]]:
        """Compute the pixel metrics of the test set and of each defect type; see `to_dict`."""
        masked = self.masked()
        if not any(one.mask.any() for one in masked if one.mask is not None):
            return dict.fromkeys(PIXEL_METRICS), {kind: dict.fromkeys(REGION_METRICS) for kind in self.kinds()}
        pixels = self.pixels()
        f1, f1_threshold = pixels.f1_max()
        overlaps = pixels.aupimo()
        whole = {
            "pixel_AUROC": pixels.auroc(),
            "pixel_AP": pixels.average_precision(),
            "pixel_F1Max": f1,
            "pixel_F1Max_threshold": f1_threshold,
            **_region_metrics(pixels, overlaps, set(overlaps)),
        }
        types = {}
        for kind in self.kinds():
            images = {index for index, outcome in enumerate(masked) if outcome.image.defect == kind}
            complete = len(images) == len(self.of_kind(kind))
            types[kind] = _region_metrics(pixels, overlaps, images & overlaps.keys() if complete else set())
        return whole, types


def evaluate(
    detector: Detector,
    images: Sequence[LabelledImage],
    *,
    progress: Progress | None = None,
    judge: Callable[[Path, np.ndarray], Verdict | None] | None = None,
    learnt: Sequence[Path] = (),
    taken_for_good: Sequence[Path] = (),
    folds: Mapping[Path, int] | None = None,
) -> Evaluation:
    """Judge every test image, by `judge` if given; images for which it returns None are left out.

    Images in `folds` were learnt, and are judged without their own fold; `learnt` are other learnt images, and
    `taken_for_good` defective ones that were learnt, for the record.
    """
    outcomes, empty, looks, unreadable = [], [], {}, []
    top = common_folder([test.path for test in images])
    for done, test in enumerate(images, 1):
        try:
            image = detector.read_image(test.path)
        except ImageError as error:
            unreadable.append(str(error))
            continue
        fold = (folds or {}).get(test.path)
        if fold is not None:
            verdict: Verdict | None = detector.predict_left_out(image, fold)
        else:
            verdict = detector.predict(image) if judge is None else judge(test.path, image)
        if verdict is None:
            continue
        looks[name_in(top, test.path)] = look_of(image)
        mask = test.load_mask(image.shape[:2])
        if test.is_defective and mask is not None and not mask.any():
            empty.append(test.path)
        # Pixels outside the region of interest were not judged and do not count in pixel metrics.
        x, y, width, height = verdict.region or (0, 0, image.shape[1], image.shape[0])
        anomaly_map = resize_map(verdict.anomaly_map, (height, width))
        mask = None if mask is None else mask[y : y + height, x : x + width]
        anomaly_map, mask = at_measured_size(anomaly_map, mask)
        outcomes.append(
            Outcome(test, verdict.image_score, verdict.decision, anomaly_map, mask, fold, verdict.stage_times)
        )
        if progress:
            progress(done, len(images))
    calibration = detector.graph.calibration
    assert calibration is not None
    limit, volumes = calibration.reject, calibration.volumes
    return Evaluation(outcomes, limit, None, empty, volumes, learnt, taken_for_good, looks, unreadable=unreadable)


def _region_metrics(pixels: metrics.Pixels, overlaps: dict[int, float], images: set[int]) -> dict[str, float | None]:
    """Compute AUPRO and AUPIMO of some images; None if they have no defect in the region of interest."""
    if not images:
        return dict.fromkeys(REGION_METRICS)
    return {
        "AUPRO": pixels.aupro(0.3, images),
        "AUPRO_0.05": pixels.aupro(0.05, images),
        "AUPIMO": float(np.mean([overlaps[index] for index in images])),
    }


def at_measured_size(anomaly_map: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Shrink a map and its mask, both (H, W), so that their longer side is at most `LONGEST_SIDE_PX`."""
    scale = LONGEST_SIDE_PX / max(anomaly_map.shape)
    if scale >= 1:
        return anomaly_map, mask
    size = (round(anomaly_map.shape[1] * scale), round(anomaly_map.shape[0] * scale))
    small = cv2.resize(anomaly_map, size, interpolation=cv2.INTER_AREA)
    if mask is None:
        return small, None
    return small, cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
