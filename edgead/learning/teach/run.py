"""From good images to a new version of a model: features, a merged memory bank, thresholds, golden images."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgead import kernels
from edgead.artifact.folder import Artifact, ArtifactError, write_arrays, write_manifest
from edgead.artifact.manifest import PROVEN, Manifest
from edgead.artifact.training_hashes import keep_learnt
from edgead.dataset.folders import Images, Progress, StageProgress, check_images, no_progress, split_good
from edgead.dataset.groups import AUTO, Groups, group_images
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.heads.nearest import BANK, NearestHead
from edgead.learning.finalize import measure_good, write_golden
from edgead.learning.patch_features import each_features
from edgead.learning.recalibrate import threshold_change, without_copies
from edgead.learning.teach.calibration_images import CalibrationImages, find_calibration_images
from edgead.learning.teach.lesson import Judgement, Lesson, judge
from edgead.learning.teach.thresholds import settle
from edgead.learning.teach.versions import earlier_versions, new_version
from edgead.memory_bank.coreset import Merged, merge, spacing


@dataclass(frozen=True, slots=True)
class TeachPlan:
    """What to teach.

    Attributes
    ----------
    images : sequence of Path
        Good parts, such as those that were falsely rejected.
    held_out_share : float
        This share of them is not learnt and shows how the model takes parts that are like those it was taught.
    calibration : sequence of Path
        Good images that thresholds are made from, neither taught nor trained on; by default those that the model keeps.
    group : str
        Which images belong together, see `edgead.dataset.groups.group_images`: a group is learnt, held out or
        calibrated on.
    """

    images: Sequence[Path]
    held_out_share: float = 0.2
    calibration: Sequence[Path] = ()
    group: str = AUTO

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share <= 0.5:
            raise SettingsError(f"the share of images to hold out is 0 to 0.5, found {self.held_out_share}")


def teach(path: Path, plan: TeachPlan, *, progress: StageProgress = no_progress) -> Lesson:
    """Teach a model good images; the new version takes its place, the old one is kept.

    The memory bank keeps its size, and with it the model its latency: see `edgead.memory_bank.coreset.merge`.
    Thresholds are made again from images that are in no bank, old or new, so that they guarantee for parts like those
    images what they did before. Taught images only keep them from becoming so low that these are rejected again:
    those that an operator picks are no sample of what comes.

    Raises
    ------
    SettingsError
        A model without a memory bank, or calibration images that are taught too.
    ArtifactError, CalibrationError, DatasetError
        A damaged model, no or too few images to calibrate on, images that cannot be read. Nothing changes then.
    """
    artifact = Artifact.load(path)
    _check(artifact)
    paths, _, digest = check_images(plan.images, progress=partial(progress, "read images"))
    groups = group_images(paths, plan.group)
    taught, held_out = _split(paths, plan.held_out_share, groups)
    good = find_calibration_images(artifact, plan.calibration, taught=paths, group=plan.group)
    bank = artifact.array(BANK)
    width = spacing(bank)
    images = Images(taught, artifact.manifest.preprocessing)
    new = _uncovered(artifact, bank, max(width, _harmless(artifact.manifest)), images, progress)
    merged = merge(bank, new, progress=partial(progress, "merge memory bank"))
    before = _judge_all(artifact, taught, held_out, partial(progress, "judge before"))
    with new_version(artifact.path) as draft:
        write_arrays(draft, artifact.manifest, {BANK: merged.bank})
        keep_learnt(draft, taught)
        facts = {
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "data_sha256": digest,
            "images": len(taught),
            "held_out_images": len(held_out),
            "rows_added": merged.added,
            "calibrated_on": good.source,
        }
        manifest = _calibrate_all(Artifact(draft, artifact.manifest), good, taught, progress)
        written = write_manifest(draft, _with_lesson(manifest, facts))
        after = _judge_all(Artifact(draft, written), taught, held_out, partial(progress, "judge after"))
    return _lesson(artifact, good, merged, (before, after), width)


def _check(artifact: Artifact) -> None:
    manifest = artifact.manifest
    if BANK not in manifest.head.arrays:
        raise SettingsError(
            f"{artifact.path} is a {manifest.detector} model, which has no memory bank to teach: retrain it with "
            "these images among the good ones, or train patchcore"
        )
    for name in artifact.precisions:
        limits = artifact.graph(name).calibration
        if limits is None:
            raise ArtifactError(f"{artifact.path} has no thresholds: retrain it with `edgead train`")
        if limits.method not in PROVEN:
            raise SettingsError(
                f"the thresholds of {artifact.path} ({name}) are {limits.method.replace('_', ' ')}, which good images "
                "alone cannot make again: calibrate it for a rate that they support, then teach"
            )


def _split(paths: list[Path], share: float, groups: Groups) -> tuple[list[Path], list[Path]]:
    """Split into images to learn and held-out ones, whole groups each; the same for the same images."""
    return split_good(paths, int(share * groups.count), 0, groups.of(paths))


def _harmless(manifest: Manifest) -> float:
    """Distance up to which patches alone flag no image: its score is a mean of them, or less.

    Not to learn what does no harm spares the old rows that would be given up for it.
    """
    head, limits = manifest.head, manifest.graphs["fp32"].calibration
    if limits is None or not isinstance(head, NearestHead) or head.graph_weight or not head.patch_weight:
        return 0.0
    return limits.review / head.patch_weight


def _uncovered(
    artifact: Artifact, bank: np.ndarray, level: float, images: Images, progress: StageProgress
) -> np.ndarray:
    """Patches that are further than `level` from the bank, float32 (n, d)."""
    search = kernels.NearestPatches(bank)
    found = [np.empty((0, bank.shape[1]), np.float32)]
    for features in each_features(artifact, images, partial(progress, "extract features")):
        distance, _ = search.search(features)
        found.append(features[distance[:, 0] > level].copy())
    return np.concatenate(found)


def _judge_all(
    artifact: Artifact, taught: list[Path], held_out: list[Path], progress: Progress
) -> dict[str, Judgement]:
    judgements = {}
    for done, name in enumerate(artifact.precisions, 1):
        with Detector(artifact, runtime="onnxruntime", precision=name) as detector:
            judgements[name] = judge(detector, taught, held_out)
        progress(done, len(artifact.precisions))
    return judgements


def _calibrate_all(
    draft: Artifact, good: CalibrationImages, taught: Sequence[Path], progress: StageProgress
) -> Manifest:
    """Make thresholds and golden images of every graph again, with the bank that is in the draft."""
    manifest = draft.manifest
    changes = []
    _, digest = without_copies(good.paths)
    for name in draft.precisions:
        graph = draft.graph(name)
        assert graph.calibration is not None
        with Detector(good.readable(draft), runtime="onnxruntime", precision=name) as detector:
            scores = measure_good(detector, good.paths, partial(progress, f"calibrate {name}"))
        renewed = scores.calibrate(
            graph.calibration.false_reject_rate, graph.calibration.review_rate, groups=good.groups
        )
        with Detector(draft, runtime="onnxruntime", precision=name) as detector:
            settled = settle(renewed, graph.calibration, measure_good(detector, taught))
            golden = [write_golden(detector, draft.path, old.image, old.anomaly_map) for old in graph.golden]
        manifest = manifest.with_graph(name, calibration=settled, golden=golden)
        changed = graph.calibration, settled
        changes.append(threshold_change(name, *changed, images=len(good.paths), images_sha256=digest))
        if name == "fp32":
            fp32_scores = scores.scores
    good.keep_in(draft, fp32_scores)
    return manifest.model_copy(update={"threshold_changes": [*manifest.threshold_changes, *changes]})


def _with_lesson(manifest: Manifest, facts: dict[str, Any]) -> Manifest:
    training = {**manifest.training, "taught": [*manifest.training.get("taught", []), facts]}
    return manifest.model_copy(update={"training": training})


def _lesson(
    artifact: Artifact,
    good: CalibrationImages,
    merged: Merged,
    judgements: tuple[dict[str, Judgement], dict[str, Judgement]],
    width: float,
) -> Lesson:
    earlier = earlier_versions(artifact.path)[-1]
    before, after = judgements
    return Lesson(
        str(artifact.path),
        str(earlier),
        good.source,
        len(merged.bank),
        merged.added,
        width,
        merged.radius,
        before,
        after,
    )
