"""A finished artifact gets a graph: fp32 written again, or another precision beside it."""

from __future__ import annotations

from pathlib import Path

from edgead.artifact.folder import Artifact
from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.export.calibration_images import find_calibration_images
from edgead.export.precision import PrecisionPlan, add_precision
from edgead.export.rewrite import rewrite_graph


def add_graph(
    path: Path,
    plan: PrecisionPlan,
    data: Path | None = None,
    *,
    normal_dir: str | None = None,
    group: str | None = None,
    progress: StageProgress = no_progress,
) -> Artifact:
    """Write a graph of the artifact at `path`; see `edgead.export.precision.add_precision`.

    Parameters
    ----------
    path : Path
    plan : PrecisionPlan
        Of "fp32", which is written from the torch weights, only `make_default` counts.
    data : Path, optional
        The folder that the model was trained on; every precision but fp32 needs it.
    normal_dir, group : str, optional
        See `edgead.export.calibration_images.find_calibration_images`.
    progress : callable, optional
        Called with (stage, done, total).

    Raises
    ------
    SettingsError
        An unknown precision or layer, or no `data`.
    ExportError
        The new graph's scores are too far from those of the one before, or of fp32; nothing changes then.
    """
    if plan.precision == "fp32":
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
    images = find_calibration_images(Artifact.load(path), data, normal_dir, group=group, progress=progress)
    return add_precision(path, plan, images, progress=progress)
