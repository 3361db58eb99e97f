"""Plan of a search: its budget, and which images are for what in it."""

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
    """What to search for.

    Attributes
    ----------
    latency_ms : float
        The 95th percentile of a frame's time on this machine stays below it.
    false_reject_rate : float, optional
        What the winner is calibrated for; by default as `edgead train` chooses it.
    runtime : str
        Engine that times are measured with.
    precisions : sequence of str
        fp32, and what else is tried of the finalists.
    detectors : sequence of str
    trials : int
        Candidates to start with.
    workers : int, optional
        Processes; by default one for each core that edgead may use.
    ray : str, optional
        Address of a Ray cluster, which takes the place of processes here. Times are measured here all the same.
    seed : int
    group : str
        Which images belong together; see `edgead.dataset.groups.group_images`.
    normal_dir : str, optional
        Where the good images lie in the data; see `edgead.dataset.folders.find_good_images`.
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
class Parts:
    """Good images of a search: to learn from, and to judge with. No group is in both.

    Attributes
    ----------
    learn, judge : list of Path
    groups : Groups
        Of all of them.
    """

    learn: list[Path]
    judge: list[Path]
    groups: Groups = Groups(NONE, {}, "")

    @property
    def calibration(self) -> CalibrationPlan:
        """Limits of candidates, which never ship: the strictest, for a reject takes longer than a good part."""
        groups = self.groups_of(self.judge)
        return CalibrationPlan(self.judge, 1 / max(2, len(set(groups or self.judge))), groups=groups)

    def groups_of(self, paths: Sequence[Path]) -> tuple[int, ...]:
        """Group of each image; empty where each is its own."""
        return () if self.groups.are_single else tuple(self.groups.of(paths))


def split_images(plan: TunePlan, good: GoodImages, progress: StageProgress) -> Parts:
    """Deal the good images to those that candidates learn, and those that they are judged with.

    Raises
    ------
    SettingsError, DatasetError, CalibrationError
        What is asked for cannot be, with these images.
    """
    if plan.latency_ms <= 0 or plan.trials < 1:
        raise SettingsError(f"latency and trials must be above 0, found {plan.latency_ms:g} and {plan.trials}")
    unknown = [name for name in plan.precisions if name not in PRECISIONS]
    if unknown:
        raise SettingsError(f"unknown precision {', '.join(map(repr, unknown))}: choose from {', '.join(PRECISIONS)}")
    paths, _, _ = check_images(good.find(), progress=partial(progress, "read images"))
    groups = group_images(paths, good.group, good.data)
    # The winner may be a detector that leaves images out by itself, or one that holds some out.
    choose_rates(len(paths), plan.false_reject_rate, None, groups=groups.count)
    plan_calibration(groups.count, plan.false_reject_rate, what=groups.unit)
    judged = max(2, round(JUDGED_SHARE * groups.count))
    if judged >= groups.count:
        raise SettingsError(f"{groups.count} {groups.unit} are too few to learn from and to judge with")
    judge, learn = ([paths[i] for i in part] for part in deal_groups(groups.of(paths), (judged,), plan.seed))
    return Parts(learn, judge, groups)
