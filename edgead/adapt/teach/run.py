"""New version of a model from a prepared lesson: the merged memory bank, thresholds, golden images."""

from __future__ import annotations

import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgead.adapt.finalize import measure_good, write_golden
from edgead.adapt.memory_bank.coreset import Merged
from edgead.adapt.recalibrate import threshold_change, without_copies
from edgead.adapt.teach.guard import LessonRefusedError
from edgead.adapt.teach.lesson import Judgement, Lesson, Role, judge, refuse_escapes
from edgead.adapt.teach.marked import twins
from edgead.adapt.teach.prepare import Prepared, TeachPlan, prepare
from edgead.adapt.teach.thresholds import settle
from edgead.adapt.teach.versions import new_version
from edgead.artifact.folder import Artifact, write_arrays, write_manifest
from edgead.artifact.manifest import Manifest
from edgead.artifact.training_hashes import keep_learnt
from edgead.artifact.versions import earlier_versions
from edgead.calibration.blind import BlindLimitError, doubts
from edgead.dataset.folders import Progress, StageProgress, no_progress
from edgead.detector import Detector
from edgead.heads.nearest import BANK, ROW_FOLDS, STAND_INS


def teach(path: Path, plan: TeachPlan, *, progress: StageProgress = no_progress) -> Lesson:
    """Teach a model good images; the new version takes its place, the old one is kept.

    The memory bank keeps its size, and with it the model its latency: see `edgead.adapt.memory_bank.coreset.merge`.
    Thresholds are made again from images that are in no bank, old or new, so that they guarantee for parts like those
    images what they did before. Taught images only keep them from becoming so low that these are rejected again:
    those that an operator picks are no sample of what comes.

    Raises
    ------
    SettingsError, LessonRefusedError, ArtifactError, CalibrationError, DatasetError
        See `edgead.adapt.teach.prepare.prepare`. Nothing changes then.
    """
    return learn(prepare(path, plan, progress=progress), progress=progress)


def learn(prepared: Prepared, *, progress: StageProgress = no_progress) -> Lesson:
    """Learn what was prepared.

    Raises
    ------
    SettingsError
        The model was changed since the lesson was prepared: nothing of that change is lost.
    LessonRefusedError
        A bad part that was stopped would be ok; or thresholds may be blind, and the plan gives no reason for them.
    """
    artifact, merged, good = prepared.artifact, prepared.merged, prepared.good
    taught = prepared.taught
    artifact.check_unchanged()
    with new_version(artifact.path, prepared.plan.output) as draft:
        before = _judge_all(artifact, prepared, partial(progress, "judge before"))
        write_arrays(draft, artifact.manifest, merged_arrays(artifact, merged))
        keep_learnt(draft, [*taught, *twins(taught)])
        facts = {
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "by": prepared.plan.by,
            "data_sha256": prepared.digest,
            "images": len(taught),
            "held_out_images": len(prepared.held_out),
            "bad_images": len(prepared.bad),
            "in_doubt": sum(bool(one.doubt) for one in prepared.offered),
            "reason": prepared.plan.reason,
            "rows_added": merged.added,
            "calibrated_on": good.source,
        }
        manifest = _calibrate_all(Artifact(draft, artifact.manifest), prepared, progress)
        written = write_manifest(draft, _with_lesson(manifest, facts))
        after = _judge_all(Artifact(draft, written), prepared, partial(progress, "judge after"))
        refuse_escapes(before, after)
        artifact.check_unchanged()
    return _lesson(prepared, before, after)


def merged_arrays(artifact: Artifact, merged: Merged) -> dict[str, np.ndarray]:
    """What a model with a merged bank has; its new rows are of no fold, and are never left out."""
    arrays = {BANK: merged.bank}
    if ROW_FOLDS in artifact.manifest.arrays:
        arrays[ROW_FOLDS] = np.where(merged.new[:, None], np.float32(-1), artifact.array(ROW_FOLDS))
        arrays[STAND_INS] = np.where(merged.new[:, None], merged.bank, artifact.array(STAND_INS))
    return arrays


def _judge_all(artifact: Artifact, prepared: Prepared, progress: Progress) -> dict[str, Judgement]:
    parts: dict[Role, list[Path]] = {"taught": prepared.taught, "held out": prepared.held_out, "bad": prepared.bad}
    judgements = {}
    for done, name in enumerate(artifact.precisions, 1):
        with Detector(artifact, runtime="onnxruntime", precision=name) as detector:
            judgements[name] = judge(detector, parts)
        progress(done, len(artifact.precisions))
    return judgements


def _calibrate_all(draft: Artifact, prepared: Prepared, progress: StageProgress) -> Manifest:
    """Make thresholds and golden images of every graph again, with the bank that is in the draft."""
    manifest, good = draft.manifest, prepared.good
    changes = []
    _, digest = without_copies(good.paths)
    for name in draft.precisions:
        graph = draft.graph(name)
        assert graph.calibration is not None
        with Detector(good.readable(draft), runtime="onnxruntime", precision=name) as detector:
            scores = good.measure(detector, partial(progress, f"calibrate {name}"))
        renewed = scores.calibrate(
            graph.calibration.false_reject_rate, graph.calibration.review_rate, groups=good.groups
        )
        with Detector(draft, runtime="onnxruntime", precision=name) as detector:
            settled = settle(renewed, graph.calibration, measure_good(detector, prepared.taught))
            golden = [write_golden(detector, draft.path, old.image, old.anomaly_map) for old in graph.golden]
        manifest = manifest.with_graph(name, calibration=settled, golden=golden)
        changed = graph.calibration, settled
        doubted = doubts(graph.calibration, settled.reject, scores.scores, scores.medians, good.groups)
        if doubted and not prepared.plan.reason.strip():
            raise LessonRefusedError(f"{name}: {BlindLimitError(doubted)}")
        found = threshold_change(name, *changed, images=len(good.paths), images_sha256=digest, doubts=doubted)
        said = {"by": prepared.plan.by, "verb": "teach", "reason": prepared.plan.reason}
        changes.append(found.model_copy(update=said))
        if name == "fp32":
            kept = good.keep_in(draft, scores.scores, settled.false_reject_rate)
    changes = [*manifest.threshold_changes, *changes]
    return manifest.model_copy(update={"threshold_changes": changes, "kept": kept})


def _with_lesson(manifest: Manifest, facts: dict[str, Any]) -> Manifest:
    training = {**manifest.training, "taught": [*manifest.training.get("taught", []), facts]}
    return manifest.model_copy(update={"training": training})


def _lesson(prepared: Prepared, before: dict[str, Judgement], after: dict[str, Judgement]) -> Lesson:
    path, merged = prepared.artifact.path, prepared.merged
    output = prepared.plan.output
    return Lesson(
        str(output or path),
        str(path if output else earlier_versions(path)[-1]),
        prepared.good.source,
        len(merged.bank),
        merged.added,
        prepared.width,
        merged.radius,
        before,
        after,
    )
