"""int8 graph of a newly trained model, which becomes the default if the CPU gains by it."""

from __future__ import annotations

import logging
import math

from edgead.export.calibration_images import CalibrationImages
from edgead.export.precision import PrecisionPlan, add_precision, not_for
from edgead.export.quantize import MIN_IMAGES
from edgead.export.rewrite import ToleranceError

from edgead import kernels
from edgead.adapt.methods.method import AUTO, FP32, INT8
from edgead.artifact.folder import Artifact, write_manifest
from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import EdgeadError, SettingsError

logger = logging.getLogger(__name__)

# In tolerances. A network with larger errors in int8 needs so many float layers that it gains little, and the search
# for them takes minutes.
GIVE_UP_ABOVE = 5.0

# Least speed-up over fp32 on CPUs without sums of 8-bit products: with AVX2 alone most networks gain, some do not.
LEAST_GAIN = 1.1

TRIES_INT8 = ("try int8", "calibrate ranges", "calibrate int8")
"""Stages of `ship_int8`; there are more if layers stay in float."""


def check_int8(detector: str, images: int, *, calibrated: bool, cross_validates: bool) -> None:
    """Refuse int8 before a training that cannot produce it.

    `images`: number of images.
    `calibrated`: whether the method computes thresholds.
    `cross_validates`: whether thresholds come from several trainings that each leave out a part of the images.
    Raises SettingsError.
    """
    if cross_validates:
        raise SettingsError(
            "int8 makes thresholds of its own, from good images that the model has not learnt: leave out --folds"
        )
    if not calibrated:
        raise SettingsError(f"int8 makes thresholds of its own, and {detector} has none: leave out --precision int8")
    if images < MIN_IMAGES:
        raise SettingsError(f"int8 needs {MIN_IMAGES} good images, found {images}: leave out --precision int8")


def ship_int8(
    artifact: Artifact, images: CalibrationImages, precision: str = AUTO, progress: StageProgress = no_progress
) -> Artifact:
    """Add the int8 graph with its own thresholds, and make it the default graph.

    `artifact`: finished artifact with its fp32 graph.
    `images`: images of its training.
    `precision` ({"auto", "fp32", "int8"}): "auto" keeps fp32 on CPUs that gain nothing, for networks without suitable
        layers, with too few images, and if scores would change too much or frames be hardly faster; in the last two
        cases, and if the graph cannot be made, the manifest's `training` has the reason.
    Raises ExportError, SettingsError: "int8" is not possible; the model is unchanged.
    """
    if precision == FP32:
        return artifact
    wanted = precision == INT8
    if not wanted and (
        not kernels.gains_by_int8()
        or artifact.graph(FP32).calibration is None
        or min(len(images.ranges), len(images.held_out)) < MIN_IMAGES
        or not_for(artifact, INT8)
    ):
        return artifact
    progress(TRIES_INT8[0], 0, 1)
    plan = PrecisionPlan(
        INT8,
        make_default=True,
        give_up_above=math.inf if wanted else GIVE_UP_ABOVE,
        least_gain=0.0 if wanted or kernels.multiplies_int8() else LEAST_GAIN,
    )
    try:
        return add_precision(artifact.path, plan, images, progress=progress)
    except Exception as error:  # of a quantiser and two engines without a common base; fp32 is complete
        if wanted:
            raise
        artifact = Artifact.load(artifact.path)
        training = {**artifact.manifest.training, "int8_left_out": _why_not(error)}
        write_manifest(artifact.path, artifact.manifest.model_copy(update={"training": training}))
        return Artifact.load(artifact.path)


def _why_not(error: Exception) -> str:
    """Describe why there is no int8 graph, for the manifest and `train`; log unforeseen errors."""
    if isinstance(error, ToleranceError):
        return error.found
    first = (str(error).splitlines() or [""])[0].rstrip(".")
    found = first if isinstance(error, EdgeadError) else f"{type(error).__name__}: {first}"
    logger.warning("int8 is left out: %s", found, exc_info=error if logger.isEnabledFor(logging.DEBUG) else None)
    return f"the int8 graph could not be made ({found})"
