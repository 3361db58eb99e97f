"""Change of thresholds on the device, from good images or by hand; the manifest records every change.

Thresholds are refused if a known defect that is stopped now would pass.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edgead.adapt.finalize import GoodScores, collect_scores, measure_good, measure_views
from edgead.adapt.kept_images import can_keep, keep_images, others_kept
from edgead.artifact.folder import Artifact, ArtifactError, write_manifest
from edgead.artifact.limits import Limits
from edgead.artifact.manifest import Calibration, CameraView, Kept, Manifest, ThresholdChange, Thresholds
from edgead.artifact.training_hashes import content_sha256, count_taught, refuse_learnt
from edgead.calibration.blind import MAX_REJECTED, BlindLimitError, doubts
from edgead.calibration.cause_of_rejects import cause_of
from edgead.calibration.conformal import check_support, share_above
from edgead.calibration.group_conformal import one_of_each
from edgead.calibration.outliers import others_at_most, stand_apart
from edgead.calibration.plan import strictest_rate
from edgead.calibration.two_sample import same_distribution_p_value
from edgead.dataset.folders import Progress, check_images, common_folder, name_in, tell_unreadable
from edgead.dataset.groups import AUTO, Groups, group_images
from edgead.detector import Detector
from edgead.detector.golden_likeness import unlike_golden
from edgead.errors import SettingsError
from edgead.images.likeness import Look, look_of
from edgead.metrics import Rate
from edgead.types import scaled_score

# P-value below which scores are reported to differ from those of the previous calibration.
DIFFERENT_BELOW = 0.01
MAX_NAMED, SHOWN = 8, 3
# A new limit above this score, where 100 was the limit, passes what was rejected clearly, unless defects tested it.
MAX_RISE, ENOUGH_BAD = 120, 3
# From this share on, high-scoring parts are taken for a regular part of the production.
MIN_APART = 0.1


@dataclass(frozen=True, slots=True)
class AskedRates:
    """Rates that the new thresholds shall guarantee; None keeps the model's rate.

    `group` says which images belong together; see `edgead.dataset.groups.group_images`. With `accept_outliers`, images
    that score far above the others are taken as good.
    """

    false_reject_rate: float | None = None
    review_rate: float | None = None
    group: str = AUTO
    accept_outliers: bool = False


@dataclass(frozen=True, slots=True)
class GoodParts:
    """Good images to calibrate with.

    `images` lists different images, `looks` says how each looks, by path. `copies` are files equal to one of these;
    `unreadable` has the faults of others. `found` says how the groups were found; `group_of` is the group of each
    image, empty if each image is a group of its own. `sha256` is a hash of the contents.
    """

    images: list[Path]
    looks: dict[str, Look]
    copies: int
    unreadable: list[str]
    found: Groups
    group_of: list[int]
    sha256: str

    @classmethod
    def read(cls, detector: Detector, paths: Sequence[Path], group: str) -> GoodParts:
        """Read images that the detector's model has not learnt; see `recalibrate`."""
        looks: dict[str, Look] = {}
        usable, unreadable, _ = check_images(
            paths,
            skip_bad=True,
            read=detector.read_image,
            look=lambda path, image: looks.update({str(path): look_of(image)}),
        )
        refuse_learnt(detector.artifact, usable)
        unique, digest = without_copies(usable)
        found = group_images(unique, group, common_folder(unique))
        group_of = [] if found.are_single else found.of(unique)
        return cls(unique, looks, len(usable) - len(unique), unreadable, found, group_of, digest)

    @property
    def names(self) -> list[str]:
        """Name of each image below their common folder."""
        top = common_folder(self.images)
        return [name_in(top, path) for path in self.images]


@dataclass(frozen=True, slots=True)
class Recalibration:
    """New thresholds, not written yet, and the facts that they are based on.

    The old threshold rejects the share `rejected_before` of the images. One median is of the scores that the old
    thresholds came from, the other of the images' scores. `outliers` says which images score far above the others.
    `views` are for the drift watch. `kept_scores` are the images' scores by the graph that was learnt (empty if the
    model keeps no images), `of_bad` the scores of the bad parts, of which `taught_bad` are known defects of the model.

    The `doubts` of `change` say why the thresholds may miss defects; such thresholds are written only with a reason.
    """

    change: ThresholdChange
    calibration: Calibration = field(repr=False)
    rejected_before: Rate
    median_before: float
    median_after: float
    taught_bad: int
    good: GoodParts = field(repr=False)
    outliers: str
    views: list[CameraView] = field(repr=False)
    kept_scores: list[float] = field(repr=False)
    of_bad: list[float]

    def warnings(self) -> list[str]:
        """Return warnings for the person who calibrates."""
        found = tell_unreadable(self.good.unreadable, len(self.good.images) + self.good.copies)
        p_value = self.change.same_scores_p_value
        if p_value is not None and p_value < DIFFERENT_BELOW:
            found.append(
                "these images do not score as those that the old thresholds came from (median "
                f"{self.median_after:.4g}, was {self.median_before:.4g}; p = {p_value:.2g}): other light, another "
                "camera setting, another batch, or images that the model was trained on. The new thresholds hold for "
                "parts like these images"
            )
        found += [f"the new limit may be blind: {doubt}" for doubt in self.change.doubts]
        if self.taught_bad:
            found.append(
                f"{self.taught_bad} of {len(self.of_bad)} bad parts were taught to this model as known defects: they "
                "say nothing of new ones; give others"
            )
        if self.outliers:
            found.append(f"{self.outliers}: the thresholds let them pass. Look whether they are good")
        if self.good.copies:
            found.append(f"{self.good.copies} images are copies of others and count once")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        volumes, passing = self.calibration.volumes, sum(score <= self.change.after.review for score in self.of_bad)
        return {
            **self.change.model_dump(mode="json"),
            "old_threshold_rejects": {"count": self.rejected_before.count, "total": self.rejected_before.total},
            "groups": self.good.found.count,
            "groups_account": self.good.found.account,
            "outliers": self.outliers,
            "bad_parts": {"count": passing, "total": len(self.of_bad)},
            "unreadable_images": self.good.unreadable,
            "warnings": self.warnings(),
            **({} if volumes is None else {"volumes": len(volumes.scores), "volume_threshold": volumes.reject}),
        }


def refuse_thresholds(detector: Detector, bad: Sequence[Path], before: Calibration, after: Calibration) -> list[float]:
    """Measure bad parts, and return their scores.

    Raises SettingsError: a bad part that the old thresholds stop would be ok with the new thresholds.
    """
    scores = detector.image_scores(bad)
    found = [(score, path) for score, path in zip(scores, bad, strict=True) if before.review < score <= after.review]
    if found:
        score, path = max(found)
        raise SettingsError(
            f"{len(found)} of {len(bad)} bad parts that are stopped now would be ok, {Path(*path.parts[-2:])} first: "
            f"it scores {score:.4g}, and parts would be ok up to {after.review:.4g} (were: {before.review:.4g}). Teach "
            "the good parts that score as high (`edgead teach`), or take the mark of the bad part back if it was wrong"
        )
    return scores


def recalibrate(
    detector: Detector,
    paths: Sequence[Path],
    asked: AskedRates,
    *,
    bad: Sequence[Path] = (),
    progress: Progress | None = None,
) -> Recalibration:
    """Make new thresholds for the detector's graph from good images; nothing is written.

    The images were not learnt, and are taken under production conditions; the detector judges them as in production.
    No `bad` part that is stopped now may be ok afterwards.

    Raises CalibrationError: there are too few images for the rate; the message says how many are needed.
    Raises DatasetError: none of the images can be read.
    Raises SettingsError: the model has learnt from some images, or some score far above the others, like defects
        (`edgead.calibration.outliers`), or a bad part would be ok; the message names the images.
    """
    before = _calibration_of(detector)
    if not paths:
        raise SettingsError("no good images to calibrate with")
    good = GoodParts.read(detector, paths, asked.group)
    unique, groups = good.images, good.group_of
    rate = asked.false_reject_rate
    if rate is None:  # the model's own, if it has one
        rate = before.false_reject_rate if before.scores else strictest_rate(len(unique), good.found.count)
    check_support(len(unique), rate, groups)
    measured = (detector.measure(detector.read_image(path)) for path in unique)
    measured_good = collect_scores(measured, len(unique), progress)
    scores = measured_good.scores
    outliers = _outliers(unique, scores)
    if outliers and not asked.accept_outliers:
        raise _refused_outliers(outliers, scores, rate)
    review = _review_rate(before, rate) if asked.review_rate is None else asked.review_rate
    after = measured_good.calibrate(rate, review, groups=groups, paths=unique)
    of_bad = refuse_thresholds(detector, bad, before, after) if before.scores else []
    taught = count_taught(detector.manifest, bad)
    rejected = Rate.of_groups([score > before.reject for score in scores], groups)
    change = threshold_change(
        detector.graph.precision,
        before,
        after,
        images=len(unique),
        images_sha256=good.sha256,
        same_scores_p_value=_same_scores(before, scores, groups),
        doubts=_doubts(detector, good, measured_good, after, rejected, tested=len(of_bad) - taught >= ENOUGH_BAD),
    )
    golden = [detector.artifact.path / one.image for one in detector.graph.golden]
    medians_of_scores = float(np.median(before.scores or [0.0])), float(np.median(scores))
    return Recalibration(
        change,
        after,
        rejected,
        *medians_of_scores,
        taught,
        good,
        outliers=outliers,
        views=measure_views(detector, unique, golden, groups) if golden else [],
        kept_scores=_kept_scores(detector, unique, scores, progress),
        of_bad=of_bad,
    )


def _refused_outliers(outliers: str, scores: Sequence[float], rate: float) -> SettingsError:
    return SettingsError(
        f"{outliers}: are these defects? A threshold that lets them pass lets such defects pass. Leave defects out, "
        "weaker ones too. Take good ones with --accept-outliers: without them the threshold would reject "
        f"{_left_out(scores, rate)}"
    )


def _doubts(
    detector: Detector, good: GoodParts, measured: GoodScores, after: Calibration, rejected: Rate, *, tested: bool
) -> list[str]:
    """Say why new thresholds may miss defects. `tested`: whether known defects were tested against them."""
    before, names, scores = _calibration_of(detector), good.names, measured.scores
    found = _apart(detector, names, scores, good.group_of) if rejected.rate >= MIN_APART else []
    unlike = unlike_golden(detector, good.looks, share=MAX_REJECTED)
    found += doubts(before, after.reject, scores, measured.medians, good.group_of, unlike=unlike)
    if not tested:
        found += _raised(before, after, names, scores)
    if detector.manifest.of_several and len({path.parent for path in good.images}) == 1:
        found.append(
            "the model has one limit for several products, and all images are from one folder: give images of each, or "
            "defects of the others may pass"
        )
    return found


def _raised(before: Calibration, after: Calibration, names: Sequence[str], scores: Sequence[float]) -> list[str]:
    """Say that the limit rises much, if so at a rate that is not stricter than before."""
    rise = scaled_score(after.reject, before.typical, before.reject) or 0.0
    if rise <= MAX_RISE or after.false_reject_rate < before.false_reject_rate:
        return []
    above = [name for score, name in sorted(zip(scores, names, strict=True), reverse=True) if score > before.reject]
    return [
        f"it rises to {rise:.0f}, where 100 was the limit, and defects that score in between pass then. Look at the "
        f"{len(above)} images above the old limit, {', '.join(above[:SHOWN])} first, or test the new one with at least "
        f"{ENOUGH_BAD} defects that were not taught: --bad DEFECTS"
    ]


def _same_scores(before: Calibration, scores: Sequence[float], groups: Sequence[int]) -> float | None:
    """P-value of the test that earlier scores and these have one distribution; None without earlier scores."""
    if not before.scores:
        return None
    return same_distribution_p_value(one_of_each(before.scores, before.groups), one_of_each(scores, groups))


def _calibration_of(detector: Detector) -> Calibration:
    """Return the model's own thresholds, as the detector may have been given temporary thresholds."""
    path, before = detector.artifact.path, detector.artifact.graph(detector.graph.precision).calibration
    if before is None:
        raise ArtifactError(f"{path} has no thresholds: retrain it with `edgead train`")
    if detector.manifest.head.in_order:
        raise SettingsError(
            f"{path} judges frames in order, and its limit is made cycle by cycle: learn it again with `edgead cycle` "
            "and the new videos beside the old ones, or set the limit by hand"
        )
    return before


def _apart(detector: Detector, names: Sequence[str], scores: Sequence[float], groups: Sequence[int]) -> list[str]:
    """Say that some of the images look different from all learnt images, if so."""
    graph = detector.artifact.graph(detector.graph.precision)
    cause = cause_of(names, scores, graph, detector.artifact.path, groups=groups)
    return [cause.said] if cause is not None and cause.kind == "unlearnt" else []


def _kept_scores(
    detector: Detector, paths: Sequence[Path], scores: Sequence[float], progress: Progress | None
) -> list[float]:
    """Return the scores to keep with the images: by the graph that was learnt, even if another graph is calibrated."""
    if not can_keep(detector.manifest, len(paths)):
        return []
    learnt_in = detector.manifest.learnt_in
    if detector.graph.precision == learnt_in:
        return list(scores)
    with Detector(detector.artifact, runtime="onnxruntime", precision=learnt_in) as learnt:
        return measure_good(learnt, paths, progress).scores


def thresholds_by_hand(
    artifact: Artifact, precision: str | None, *, reject: float | None = None, review: float | None = None
) -> tuple[ThresholdChange, Calibration]:
    """Set thresholds by hand; nothing is written. None keeps a threshold; review never exceeds reject.

    Raises SettingsError: a threshold is not finite, or the review threshold is above the reject threshold.
    """
    graph = artifact.graph(precision)
    before = graph.calibration
    if before is None:
        raise ArtifactError(f"{artifact.path} has no thresholds: retrain it with `edgead train`")
    new_reject = before.reject if reject is None else reject
    new_review = min(before.review, new_reject) if review is None else review
    limits = Limits.checked(review=new_review, reject=new_reject)
    after = before.model_copy(
        update={
            **limits.values(),
            "method": "by_hand",
            "false_reject_rate": share_above(before.scores, limits.reject, before.groups),
            "review_rate": share_above(before.scores, limits.review, before.groups),
        }
    )
    return threshold_change(graph.precision, before, after, doubts=doubts(before, after.reject)), after


def threshold_change(
    precision: str,
    before: Calibration,
    after: Calibration,
    *,
    images: int = 0,
    images_sha256: str = "",
    same_scores_p_value: float | None = None,
    doubts: Sequence[str] = (),
) -> ThresholdChange:
    """Return the record of a change of a graph's thresholds, with the present time; see `ThresholdChange`."""
    return ThresholdChange(
        changed_at=datetime.now(timezone.utc),
        precision=precision,
        images=images,
        images_sha256=images_sha256,
        same_scores_p_value=same_scores_p_value,
        doubts=list(doubts),
        before=_thresholds(before),
        after=_thresholds(after),
    )


def write_thresholds(
    artifact: Artifact,
    change: ThresholdChange,
    calibration: Calibration,
    *,
    reason: str = "",
    found: Recalibration | None = None,
) -> Manifest:
    """Write new thresholds of one graph and the change into the artifact's manifest, in one step.

    `reason`: why the thresholds are right, for the record; needed if the change has `doubts`.
    `found`: calibration that the thresholds come from: its views and its images (for teaching) replace the model's.
        None keeps the model's.
    Raises BlindLimitError: the change has doubts, and no reason is given.
    Raises SettingsError: the artifact was changed since it was opened.
    """
    if change.doubts and not reason.strip():
        raise BlindLimitError(change.doubts)
    artifact.check_unchanged()
    change = change.model_copy(update={"reason": reason.strip()})
    manifest = artifact.manifest
    try:
        if found is not None:
            manifest = manifest.model_copy(update={"views": found.views})
            kept = _keep(artifact, found)
            if kept:
                change = change.model_copy(update={"kept": True})
                manifest = manifest.model_copy(update={"kept": kept})
        manifest = manifest.model_copy(update={"threshold_changes": [*manifest.threshold_changes, change]})
        manifest = manifest.with_graph(change.precision, calibration=calibration)
        old = others_kept(artifact.path, (one.image for one in manifest.kept))
        written = write_manifest(artifact.path, manifest, but=old)
    except BaseException:
        _remove_others(artifact.path, artifact.manifest)
        raise
    _remove_others(artifact.path, written)
    return written


def _remove_others(model: Path, manifest: Manifest) -> None:
    """Remove kept images that the manifest does not name: replaced images, or new images after a failed write."""
    for name in others_kept(model, manifest.files):
        (model / name).unlink(missing_ok=True)


def _keep(artifact: Artifact, found: Recalibration) -> list[Kept]:
    """Write the images of a calibration, beside the kept images that the manifest still names."""
    if not found.kept_scores:
        return []
    return keep_images(
        artifact.path,
        artifact.manifest,
        found.good.images,
        found.kept_scores,
        false_reject_rate=found.calibration.false_reject_rate,
        groups=found.good.group_of,
        prefix=f"{len(artifact.manifest.threshold_changes)}-",
    )


def _review_rate(before: Calibration, rate: float) -> float:
    """Return the model's own review rate, or `rate` if `rate` is higher or the model sends nothing to review."""
    return rate if before.review_rate == before.false_reject_rate else max(rate, before.review_rate)


def _left_out(scores: Sequence[float], rate: float) -> str:
    """Say which false-reject rate results if outliers that are good are left out: later good parts may be like them."""
    count, kept = len(scores), len(scores) - len(stand_apart(scores))
    rank = min(kept, math.ceil((kept + 1) * (1 - rate) - 1e-9))
    return f"about {100 * (1 - rank / (count + 1)):.2g} % of good parts, not {100 * rate:.2g} %"


def _outliers(paths: Sequence[Path], scores: Sequence[float]) -> str:
    """Name the images that score far above the others, the highest first; empty for none."""
    apart = stand_apart(scores)
    if not apart:
        return ""
    named = ", ".join(f"{Path(*paths[i].parts[-2:])} ({scores[i]:.4g})" for i in apart[:MAX_NAMED])
    more = f" and {len(apart) - MAX_NAMED} more" if len(apart) > MAX_NAMED else ""
    rest = others_at_most(scores, apart)
    return f"{len(apart)} of {len(paths)} images score far above the others (at most {rest:.4g}): {named}{more}"


def _thresholds(calibration: Calibration) -> Thresholds:
    return Thresholds(**{name: getattr(calibration, name) for name in Thresholds.model_fields})


def without_copies(paths: Sequence[Path]) -> tuple[list[Path], str]:
    """Return the images without copies (copies are not exchangeable with new parts), and a hash of their contents."""
    found = {content_sha256(path): path for path in reversed(paths)}
    unique = dict(reversed(found.items()))
    return list(unique.values()), hashlib.sha256("".join(sorted(unique)).encode()).hexdigest()
