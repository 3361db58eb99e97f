"""Plan of a search: its settings, and the images that candidates learn from and are evaluated with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgead.adapt.finalize import CalibrationPlan
from edgead.adapt.training.good_images import GoodImages
from edgead.artifact.manifest import PRECISIONS
from edgead.calibration.plan import choose_rates, plan_calibration
from edgead.dataset.folders import StageProgress, check_images, deal_groups
from edgead.dataset.groups import AUTO, NONE, Groups, group_images
from edgead.errors import SettingsError

JUDGED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class TunePlan:
    """Settings of a search.

    `latency_ms`: latency budget: limit of the 95th percentile of a frame's time on this machine.
    `false_reject_rate`: false reject rate that the winner is calibrated for; by default as `edgead train` chooses it.
    `runtime`: engine with which times are measured.
    `precisions`: precisions that finalists are built in, fp32 among them.
    `trials`: number of candidates in the first round.
    `workers`: processes; by default one for each core that edgead may use.
    `ray`: address of a Ray cluster, used instead of processes of this machine. Times are still measured here.
    `group`: rule by which images are grouped; see `edgead.dataset.groups.group_images`.
    `normal_dir`: folder of the good images within the data; see `edgead.dataset.folders.find_good_images`.
    """

    latency_ms: float
    false_reject_rate: float | None = None
    runtime: str = "onnxruntime"
    precisions: Sequence[str] = ("fp32",)
    detectors: Sequence[str] = ("patchcore", "mvg")
    trials: int = 24
    workers: int | None = None
    ray: str | None = None
    seed: int = 0
    group: str = AUTO
    normal_dir: str | None = None


@dataclass(frozen=True, slots=True)
class ImageSplit:
    """Good images of a search, split into images to learn from and images to evaluate with; no group is in both.

    `groups`: groups of all these images.
    """

    learn: list[Path]
    judge: list[Path]
    groups: Groups = Groups(NONE, {}, "")

    @property
    def calibration(self) -> CalibrationPlan:
        """Calibration of candidates for timing only: strictest thresholds, as rejects take longer than good parts."""
        groups = self.groups_of(self.judge)
        return CalibrationPlan(self.judge, 1 / max(2, len(set(groups or self.judge))), groups=groups)

    def groups_of(self, paths: Sequence[Path]) -> tuple[int, ...]:
        """Return the group of each image; empty if each image is a group of its own."""
        return () if self.groups.are_single else tuple(self.groups.of(paths))


def split_images(plan: TunePlan, good: GoodImages, progress: StageProgress) -> ImageSplit:
    """Split the good images into images that candidates learn from and images that evaluate the candidates.

    Raises SettingsError, DatasetError, CalibrationError: the plan is not possible with these images.
    """
    if plan.latency_ms <= 0 or plan.trials < 1:
        raise SettingsError(f"latency and trials must be above 0, found {plan.latency_ms:g} and {plan.trials}")
    unknown = [name for name in plan.precisions if name not in PRECISIONS]
    if unknown:
        raise SettingsError(f"unknown precision {', '.join(map(repr, unknown))}: choose from {', '.join(PRECISIONS)}")
    paths, _, _ = check_images(good.find(), progress=partial(progress, "read images"))
    groups = group_images(paths, good.group, good.data)
    # The winner may be a detector that leaves out images by itself, or one that holds some out.
    choose_rates(len(paths), plan.false_reject_rate, None, groups=groups.count)
    plan_calibration(groups.count, plan.false_reject_rate, what=groups.unit)
    judged = max(2, round(JUDGED_SHARE * groups.count))
    if judged >= groups.count:
        raise SettingsError(f"{groups.count} {groups.unit} are too few to learn from and to judge with")
    judge, learn = ([paths[i] for i in part] for part in deal_groups(groups.of(paths), (judged,), plan.seed))
    return ImageSplit(learn, judge, groups)
