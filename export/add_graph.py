"""Adding of graphs to a finished artifact: fp32 rewritten, or another precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgead.export.calibration_images import find_calibration_images
from edgead.export.precision import PrecisionPlan, add_precision, check_for
from edgead.export.rewrite import rewrite_graph

from edgead.adapt.build import TOLERANCES
from edgead.adapt.training.again import learn_again
from edgead.artifact.folder import Artifact
from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError

PATCHCORE = "patchcore"


def add_graph(
    path: Path,
    plan: PrecisionPlan,
    data: Path | None = None,
    *,
    normal_dir: str | None = None,
    group: str | None = None,
    progress: StageProgress = no_progress,
) -> Artifact:
    """Write a graph into the artifact at `path`; see `edgead.export.precision.add_precision`.

    A patchcore model has only the precision in which it was learnt: for another one it is learnt again from its images.

    `plan`: "fp32" is written from the torch weights and accepts only `make_default`. For patchcore no precision accepts
        a `tolerance`.
    `data`: folder that the model was trained on; needed for every precision except fp32, and for patchcore unless its
        graph can be made from torch weights.
    `normal_dir`, `group`: see `edgead.export.calibration_images.find_calibration_images`; not for fp32.
    Raises SettingsError: the precision is unknown, `data` is missing, or fp32 does not accept an option.
    Raises ExportError: the new graph's scores differ too much from the previous ones, or from fp32; nothing changes
        then.
    """
    artifact = Artifact.load(path)
    if artifact.manifest.detector == PATCHCORE:
        if plan.tolerance is not None:
            raise SettingsError(
                f"patchcore is learnt in {plan.precision}, its scores are not compared with those of fp32: leave out "
                "tolerance"
            )
        if data is not None:
            return learn_again(path, plan.precision, data, normal_dir=normal_dir, group=group, progress=progress)
        learnt_in = artifact.manifest.learnt_in
        if plan.precision != "fp32" or learnt_in != "fp32":
            raise SettingsError(
                f"{path} was learnt in {learnt_in}, and is learnt again from its images: name the folder that it was "
                f"trained on, as in `edgead export {path} DATA --precision {plan.precision}` or "
                f"model.export({plan.precision!r}, 'good/')"
            )
    if plan.precision == "fp32":
        of_images = {"data": data, "normal_dir": normal_dir, "group": group}
        _check_fp32({**of_images, "tolerance": plan.tolerance})
        progress("write the graph", 0, 1)
        artifact = rewrite_graph(path, make_default=plan.make_default)
        progress("write the graph", 1, 1)
        return artifact
    plan.check()
    if data is None:
        raise SettingsError(
            f"{plan.precision} gets thresholds of its own, from real images: name the folder that the model was "
            f"trained on, as in `edgead export {path} DATA --precision {plan.precision}` or "
            f"model.export({plan.precision!r}, 'good/')"
        )
    check_for(artifact, plan.precision)
    images = find_calibration_images(artifact, data, normal_dir, group=group, progress=progress)
    return add_precision(path, plan, images, progress=progress)


def _check_fp32(options: dict[str, Any]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise SettingsError(
            f"fp32 is written from the torch weights, and its thresholds stay: leave out {', '.join(given)}, or choose "
            f"the precision that they are for: {', '.join(TOLERANCES)}"
        )
