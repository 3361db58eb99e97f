"""First model from unlabelled parts: learnt from one half, with thresholds from the other half.

The halves, of whole groups, are drawn before anything is computed from the images. Only then do the scores of the
second half predict those of new parts: a selection within one half must not depend on the other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgead.adapt.build import write_draft
from edgead.adapt.finalize import CalibrationPlan, complete_artifact
from edgead.adapt.methods import find_preset
from edgead.adapt.methods.method import AUTO, Course
from edgead.adapt.methods.patchcore import PatchCore
from edgead.artifact.folder import Artifact, check_destination, new_artifact
from edgead.artifact.training_hashes import keep_learnt
from edgead.calibration.plan import GROUPS, IMAGES
from edgead.calibration.unlabelled import plan_unlabelled
from edgead.dataset.folders import StageProgress, common_folder, deal_groups, no_progress
from edgead.dataset.groups import Groups, group_images
from edgead.dataset.images import Images
from edgead.unlabelled.screening.run import in_own_order, rank
from edgead.unlabelled.screening.screeners import ScreenPlan

# Suspicious images to leave out of training, in multiples of the share of defective parts, as the ranking misses some.
LEFT_OUT = 2.0


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """Settings for a model from unlabelled parts.

    Attributes
    ----------
    most_defective : float
        Largest share of defective parts: an assumption on which the guarantee depends.
    false_reject_rate, review_rate : float, optional
        Rates of good parts, as in `edgead train`.
    seed : int
        Seed of the split into halves.
    """

    most_defective: float = 0.1
    false_reject_rate: float | None = None
    review_rate: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MadeModel:
    """Finished model, with the suspicious images that it has not learnt, and the unreadable ones."""

    artifact: Artifact
    left_out: list[Path]
    problems: list[str]


def make_model(
    paths: Sequence[Path],
    destination: Path,
    plan: ScreenPlan,
    model: ModelPlan,
    *,
    progress: StageProgress = no_progress,
) -> MadeModel:
    """Make a model from unlabelled parts.

    Parameters
    ----------
    paths : sequence of Path
        Good and defective parts of one product.
    destination : Path
        Directory of the model.
    plan : ScreenPlan
        Settings for the screening of the half to learn from.
    model : ModelPlan
    progress : callable, optional
        Called with (stage, done, total).

    Raises
    ------
    SettingsError, DatasetError, CalibrationError, ArtifactError
        Raised before anything is written at `destination`.
    """
    started = time.perf_counter()
    method = PatchCore.from_settings(find_preset(PatchCore.name, plan.backbone or "fast"))
    method.choose_precision(AUTO, len(paths), cross_validates=False)
    spec = method.prepared(method.preprocessing.model_copy(update={"roi": plan.roi}))
    check_destination(destination)
    ordered, problems = in_own_order(paths, plan, progress)
    groups = group_images(sorted(ordered), plan.group, common_folder(ordered))
    reference, calibration, rate = split_pile(ordered, groups, model)
    ranked = rank(reference, groups, plan.open(), progress)
    count = round(LEFT_OUT * model.most_defective * len(ranked))
    left_out = sorted(one.path for one in ranked[:count])
    learnt = [path for path in reference if path not in set(left_out)]
    unlabelled = {
        "most_defective": model.most_defective,
        "left_out": [path.name for path in left_out],
    }
    method.learn(Images(learnt, spec), Course(groups.of(learnt), progress=progress))
    with new_artifact(destination) as draft:
        facts = {
            "training_images": len(learnt),
            "calibration_images": len(calibration),
            "groups": groups.facts(reference, calibration),
            "unlabelled": unlabelled,
            "fit_seconds": round(time.perf_counter() - started, 1),
        }
        manifest = write_draft(method.trained(), draft, spec, facts)
        keep_learnt(draft, reference)
        completed = CalibrationPlan(
            calibration, rate, model.review_rate, groups=groups.of(calibration), most_defective=model.most_defective
        )
        complete_artifact(draft, manifest, completed, progress=partial(progress, "calibrate"))
    return MadeModel(Artifact.load(destination), left_out, problems)


def split_pile(ordered: Sequence[Path], groups: Groups, model: ModelPlan) -> tuple[list[Path], list[Path], float]:
    """Split images into a half to learn from and a half for thresholds, by whole groups; return the rate too.

    Raises
    ------
    CalibrationError
        The half for thresholds cannot support the rate.
    """
    unit = IMAGES if groups.are_single else GROUPS
    rates = model.false_reject_rate, model.review_rate
    held_out, rate = plan_unlabelled(groups.count, *rates, model.most_defective, what=unit)
    calibration, reference = deal_groups(groups.of(ordered), (held_out,), model.seed)
    return [ordered[i] for i in sorted(reference)], [ordered[i] for i in sorted(calibration)], rate
