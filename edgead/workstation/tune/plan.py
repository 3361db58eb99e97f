"""Plan of a search: its budget, and which images are for what in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgead.adapt.finalize import CalibrationPlan
from edgead.artifact.manifest import PRECISIONS
from edgead.calibration.plan import plan_calibration
from edgead.dataset.folders import StageProgress, check_images, deal_groups, find_good_images, rule_of
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
        What the winner is calibrated for; by default the strictest that the images support.
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
    """The good images: to learn from, to judge with, and to calibrate the winner on. No group is in two.

    Attributes
    ----------
    name, sha256 : str
        Of all of them.
    learn, judge : list of Path
    calibration : CalibrationPlan
    groups : Groups
        Of all of them.
    """

    name: str
    sha256: str
    learn: list[Path]
    judge: list[Path]
    calibration: CalibrationPlan
    groups: Groups = Groups(NONE, {}, "")

    def groups_of(self, paths: Sequence[Path]) -> tuple[int, ...]:
        """Group of each image; empty where each is its own."""
        return () if self.groups.are_single else tuple(self.groups.of(paths))


def split_images(data: Path, plan: TunePlan, progress: StageProgress) -> Parts:
    if plan.latency_ms <= 0 or plan.trials < 1:
        raise SettingsError(f"latency and trials must be above 0, found {plan.latency_ms:g} and {plan.trials}")
    unknown = [name for name in plan.precisions if name not in PRECISIONS]
    if unknown:
        raise SettingsError(f"unknown precision {', '.join(map(repr, unknown))}: choose from {', '.join(PRECISIONS)}")
    paths, _, sha256 = check_images(find_good_images(data, plan.normal_dir), progress=partial(progress, "read images"))
    groups = group_images(paths, rule_of(plan.group, plan.normal_dir), data)
    held_out, rate = plan_calibration(groups.count, plan.false_reject_rate, what=groups.unit)
    judged = max(2, round(JUDGED_SHARE * groups.count))
    if held_out + judged >= groups.count:
        raise SettingsError(
            f"{groups.count} {groups.unit} are too few to learn from, to judge with and to calibrate on"
        )
    dealt = deal_groups(groups.of(paths), (held_out, judged), plan.seed)
    calibration, judge, learn = ([paths[i] for i in part] for part in dealt)
    plan_of_winner = CalibrationPlan(calibration, rate, groups=groups.of(calibration))
    return Parts(data.name, sha256, learn, judge, plan_of_winner, groups)
