"""New version of a model from a prepared lesson: the merged memory bank, thresholds, golden images.

The new version replaces the model; the previous version is kept beside it and can be restored.
"""

from __future__ import annotations

import datetime
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgead.adapt.finalize import GoodScores, measure_good, write_golden
from edgead.adapt.kept_images import made_from_kept
from edgead.adapt.memory_bank.coreset import Merged
from edgead.adapt.recalibrate import threshold_change, without_copies
from edgead.adapt.teach.defects import join_with_unknown, scores_by_others, with_known
from edgead.adapt.teach.guard import LessonRefusedError
from edgead.adapt.teach.lesson import DecisionCounts, Judgement, Lesson, Role, judge, refuse_escapes
from edgead.adapt.teach.prepare import Prepared, TeachPlan, prepare
from edgead.artifact.earlier_versions import earlier_versions, replace, versions_folder
from edgead.artifact.folder import Artifact, ArtifactError, new_artifact, write_arrays, write_manifest
from edgead.artifact.manifest import Calibration, Manifest, ThresholdChange
from edgead.artifact.training_hashes import keep_learnt
from edgead.calibration.blind import BlindLimitError, doubts
from edgead.calibration.conformal import raised
from edgead.dataset.folders import Progress, StageProgress, no_progress
from edgead.detector import Detector
from edgead.heads.known_defects import DEFECTS
from edgead.heads.nearest import BANK, ROW_FOLDS, STAND_INS

logger = logging.getLogger(__name__)

# Names of one frame in an evidence store, and in what was exported from it.
_TWINS = ("frame.png", "frame.tiff", "frame.jpg")
# Scores of one image with the bank's rows in another order differ by less.
ROUNDING = 1e-5


def settle(renewed: Calibration, old: Calibration, taught: GoodScores) -> Calibration:
    """Limit how far new thresholds fall below the old ones; return the adjusted calibration.

    A threshold falls no further, in proportion, than the mean of the upper half of the good scores (a single score must
    not decide), nor so low that it stops a taught part that passed. Higher thresholds keep the guarantee.
    """
    follow = min(1.0, _upper_half(renewed.scores) / max(_upper_half(old.scores), 1e-12))
    seen = {"reject": taught.scores, "review": taught.scores, "map_threshold": taught.maxima}

    def settled(name: str) -> float:
        before = getattr(old, name)
        passing = (value for value in map(raised, seen[name]) if value <= before)
        return max([getattr(renewed, name), follow * before, *passing])

    return renewed.model_copy(update={name: settled(name) for name in seen})


def moved(limits: Calibration, before: Sequence[float], after: Sequence[float]) -> Calibration:
    """Shift thresholds, and the scores that made them, with the scores of other good images; they guarantee nothing.

    They move by as much as the mean of the upper half of the other images' scores.
    """
    by = _upper_half(sorted(after)) - _upper_half(sorted(before))
    names = ("review", "reject", "map_threshold", "map_typical")
    update: dict[str, Any] = {name: getattr(limits, name) + by for name in names}
    return limits.model_copy(update={**update, "method": "by_hand", "scores": [score + by for score in limits.scores]})


def _upper_half(scores: Sequence[float]) -> float:
    """Mean of the upper half of sorted scores."""
    return float(np.mean(scores[len(scores) // 2 :]))


def sheet_of(path: Path) -> Path:
    """Return the path of the overview image of a model's last lesson."""
    path = path.resolve()
    return path.with_name(f"{path.name}.lesson.jpg")


@contextmanager
def new_version(path: Path, output: Path | None = None) -> Iterator[Path]:
    """Yield a copy of the model at `path`; the copy replaces the model when the block ends without an error.

    The previous model goes to `MODEL.versions/NUMBER`; the last ones are kept. With an `output`, the copy goes there
    and the model stays unchanged. On an error nothing changes.

    Raises ArtifactError: the files at `path` (or `output`) cannot be replaced.
    """
    with new_artifact(output or path) as draft:
        shutil.copytree(path, draft, dirs_exist_ok=True)
        yield draft


def undo(path: Path) -> Artifact:
    """Restore the last version, also if an interruption left no model at `path`; return it.

    Raises ArtifactError: there is no earlier version, or it is damaged; nothing changes.
    """
    path = path.resolve()
    earlier = earlier_versions(path)
    if not earlier:
        raise ArtifactError(f"{path} has no earlier version: there is nothing in {versions_folder(path)}")
    Artifact.load(earlier[-1])  # checks every hash
    replace(path, earlier[-1])
    sheet_of(path).unlink(missing_ok=True)
    return Artifact.load(path)


def teach(path: Path, plan: TeachPlan, *, progress: StageProgress = no_progress) -> Lesson:
    """Teach a model good images and marked defects; the new version replaces it, the old one is kept.

    The memory bank keeps its size, so that the model keeps its latency: see `edgead.adapt.memory_bank.coreset.merge`.
    Thresholds are made again from the images of the last calibration (learnt images are scored without their fold), so
    that the guarantee for parts like those images stays the same. Thresholds that do not come from the kept images move
    by as much as the scores of the kept images. If no such score changes, no threshold does. Taught images only keep
    thresholds from falling so low that these images would be rejected again: images that an operator picks are no
    random sample.

    Raises SettingsError, LessonRefusedError, ArtifactError, CalibrationError, DatasetError: see
        `edgead.adapt.teach.prepare.prepare`. Nothing changes then.
    """
    prepared = prepare(path, plan, progress=progress)
    for warning in prepared.warnings:
        logger.warning("%s", warning)
    return learn(prepared, progress=progress)


def learn(prepared: Prepared, *, progress: StageProgress = no_progress) -> Lesson:
    """Learn a prepared lesson.

    Raises SettingsError: the model was changed after the lesson was prepared; that change is kept.
    Raises LessonRefusedError: a bad part that was stopped would be ok, or thresholds may miss defects and the plan
        gives no reason for them.
    """
    artifact, merged, good = prepared.artifact, prepared.merged, prepared.good
    taught = prepared.taught
    artifact.check_unchanged()
    with new_version(artifact.path, prepared.plan.output) as draft:
        before = _judge_all(artifact, prepared, partial(progress, "judge before"))
        write_arrays(draft, artifact.manifest, merged_arrays(artifact, merged))
        knowing = _know_defects(Artifact(draft, artifact.manifest), prepared, progress)
        keep_learnt(draft, [*taught, *_twins(taught)], artifact.manifest.preprocessing)
        facts = {
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "by": prepared.plan.by,
            "data_sha256": prepared.digest,
            "images": len(taught),
            "held_out_images": len(prepared.held_out),
            "bad_images": len(prepared.bad),
            "known_defects": _count_known(knowing, prepared),
            "in_doubt": sum(bool(one.doubt) for one in prepared.offered),
            "reason": prepared.plan.reason,
            "rows_added": merged.added,
            "calibrated_on": good.source,
        }
        manifest = _calibrate_all(Artifact(draft, knowing), prepared, progress)
        written = write_manifest(draft, _with_lesson(manifest, facts))
        after = _judge_all(Artifact(draft, written), prepared, partial(progress, "judge after"))
        refuse_escapes(before, after)
        by_others = _judge_by_others(Artifact(draft, written), prepared, progress)
        artifact.check_unchanged()
    return _lesson(prepared, written, before, after, by_others)


def _twins(paths: list[Path]) -> list[Path]:
    """Find other files of the same frames: if one file is learnt, the others count as learnt too."""
    others = (path.with_name(name) for path in paths if path.name in _TWINS for name in _TWINS if name != path.name)
    return [path for path in others if path.is_file()]


def merged_arrays(artifact: Artifact, merged: Merged) -> dict[str, np.ndarray]:
    """Return the arrays of a model with a merged bank; new rows belong to no fold and are never left out."""
    arrays = {BANK: merged.bank}
    if ROW_FOLDS in artifact.manifest.arrays:
        arrays[ROW_FOLDS] = np.where(merged.new[:, None], np.float32(-1), artifact.array(ROW_FOLDS))
        arrays[STAND_INS] = np.where(merged.new[:, None], merged.bank, artifact.array(STAND_INS))
    return arrays


def _know_defects(draft: Artifact, prepared: Prepared, progress: StageProgress) -> Manifest:
    """Add the marked defects to the model in the draft; return its new manifest."""
    defects, good = prepared.defects, prepared.good
    if not defects.are_enough:
        return draft.manifest
    limits = draft.learnt_graph.calibration
    assert limits is not None
    unknowing = Artifact(draft.path, with_known(draft.manifest, defects, None))
    write_arrays(draft.path, unknowing.manifest, defects.arrays)
    reading = good.readable(unknowing)
    with Detector(reading, runtime="onnxruntime", precision=reading.manifest.learnt_in) as detector:
        unknown = good.measure(detector, partial(progress, "score by unknown defects")).scores
    known = join_with_unknown(
        reading,
        good.paths,
        unknown,
        max(limits.false_reject_rate, 1 / (len(set(good.groups) or good.paths) + 1)),  # set by hand, it may be any
        groups=good.groups,
        folds=good.folds,
        progress=partial(progress, "score by known defects"),
    )
    return with_known(draft.manifest, defects, known if any(known.slope) else None)


def _judge_by_others(draft: Artifact, prepared: Prepared, progress: StageProgress) -> DecisionCounts | None:
    """Judge each bad part by the other marked defects, with the graph that was learnt; None if no defects are known."""
    limits = draft.learnt_graph.calibration
    if not prepared.bad or not _count_known(draft.manifest, prepared) or limits is None:
        return None
    scores = scores_by_others(draft, prepared.defects, prepared.bad, partial(progress, "compare defects"))
    return DecisionCounts.of(scores, reject=limits.reject, review=limits.review)


def _count_known(manifest: Manifest, prepared: Prepared) -> int:
    return len(prepared.defects) if DEFECTS in manifest.head.arrays else 0


def _judge_all(artifact: Artifact, prepared: Prepared, progress: Progress) -> dict[str, Judgement]:
    parts: dict[Role, list[Path]] = {"taught": prepared.taught, "held out": prepared.held_out, "bad": prepared.bad}
    judgements, given = {}, prepared.plan.in_force
    own = {name: prepared.artifact.graph(name).calibration for name in artifact.precisions}
    by_hand = given and given not in [(one.review, one.reject) for one in own.values() if one]
    for done, name in enumerate(artifact.precisions, 1):
        with Detector(artifact, runtime="onnxruntime", precision=name) as detector:
            if given and by_hand and (old := own[name]) and (new := detector.graph.calibration):
                by = new.reject - old.reject
                detector.set_thresholds(review=given[0] + by, reject=given[1] + by)
            judgements[name] = judge(detector, parts)
        progress(done, len(artifact.precisions))
    return judgements


def _calibrate_all(draft: Artifact, prepared: Prepared, progress: StageProgress) -> Manifest:
    """Make thresholds and golden images of every graph again, with the bank of the draft; return the manifest."""
    manifest, good = draft.manifest, prepared.good
    changes = []
    for name in draft.precisions:
        graph = draft.graph(name)
        assert graph.calibration is not None
        settled, scores, change = _calibrate(draft, prepared, name, graph.calibration, progress)
        with Detector(draft, runtime="onnxruntime", precision=name) as detector:
            golden = [write_golden(detector, draft.path, old.image, old.anomaly_map) for old in graph.golden]
        manifest = manifest.with_graph(name, calibration=settled, golden=golden)
        changes += [change] if change else []
        if name == draft.manifest.learnt_in:
            kept = good.keep_in(draft, scores, settled.false_reject_rate)
    changes = [*manifest.threshold_changes, *changes]
    return manifest.model_copy(update={"threshold_changes": changes, "kept": kept})


def _calibrate(
    draft: Artifact, prepared: Prepared, name: str, limits: Calibration, progress: StageProgress
) -> tuple[Calibration, list[float], ThresholdChange | None]:
    """Return new thresholds of one graph, scores of the good images, and the change (None if no score changed)."""
    good, plan = prepared.good, prepared.plan
    with Detector(good.readable(prepared.artifact), runtime="onnxruntime", precision=name) as detector:
        before = good.measure(detector, partial(progress, f"score {name}"))
    with Detector(good.readable(draft), runtime="onnxruntime", precision=name) as detector:
        scores = good.measure(detector, partial(progress, f"calibrate {name}"))
    again = limits.method != "by_hand" and (not good.kept or made_from_kept(prepared.artifact.manifest, name))
    same = np.allclose(before.scores, scores.scores, rtol=ROUNDING, atol=0)
    if same and (good.kept or not again):
        return limits, scores.scores, None
    if again:
        renewed = scores.calibrate(limits.false_reject_rate, limits.review_rate, groups=good.groups)
    else:
        renewed = moved(limits, before.scores, scores.scores)
    with Detector(draft, runtime="onnxruntime", precision=name) as detector:
        settled = settle(renewed, limits, measure_good(detector, prepared.taught))
    of_images = (scores.scores, scores.medians, good.groups) if again else ()
    doubted = doubts(limits, settled.reject, *of_images)
    if doubted and not plan.reason.strip():
        raise LessonRefusedError(f"{name}: {BlindLimitError(doubted)}")
    _, digest = without_copies(good.paths)
    source = {"images": len(good.paths), "images_sha256": digest} if again else {}
    change = threshold_change(name, limits, settled, doubts=doubted)
    said = {"by": plan.by, "verb": "teach", "reason": plan.reason}
    return settled, scores.scores, change.model_copy(update={**source, **said})


def _with_lesson(manifest: Manifest, facts: dict[str, Any]) -> Manifest:
    training = {**manifest.training, "taught": [*manifest.training.get("taught", []), facts]}
    return manifest.model_copy(update={"training": training})


def _lesson(
    prepared: Prepared,
    taught: Manifest,
    before: dict[str, Judgement],
    after: dict[str, Judgement],
    by_others: DecisionCounts | None,
) -> Lesson:
    path, merged = prepared.artifact.path, prepared.merged
    output, known = prepared.plan.output, _count_known(taught, prepared)
    return Lesson(
        str(output or path),
        str(path if output else earlier_versions(path)[-1]),
        prepared.good.source,
        len(merged.bank),
        merged.added,
        prepared.width,
        merged.radius,
        known,
        by_others,
        before,
        after,
        prepared.left_out,
        len(prepared.defects) - known if prepared.defects.are_enough else 0,
    )
