"""Good images that score highest: their names in the manifest, and a warning if some score far above the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import CROSS, Calibration
from edgead.calibration.outliers import others_at_most, stand_apart
from edgead.types import score_text

# Number of images to look at, and most names of images that score far above the others.
_LOOKED_AT, _MAX_NAMED = 5, 8


def with_highest(
    training: Mapping[str, Any], names: Sequence[str], scores: Sequence[float], calibration: Calibration
) -> dict[str, Any]:
    """Add the names of the good images that score highest to the `training` section of a manifest.

    `training`: the section; `odd` in its `commissioned` names images that a person need not look at again.
    `names`: names of the images.
    `scores`: score of each image, as if it had not been learnt.
    `calibration`: thresholds made from these scores.
    Returns the section with `highest_images` (highest score first) and `images_apart`, the number of images that score
        far above the others; if there are any, `odd_images` has one more warning.
    """
    known = training.get("commissioned", {}).get("odd", ())
    named, scores = zip(*(pair for pair in zip(names, scores, strict=True) if pair[0] not in known), strict=True)
    apart = stand_apart(scores)
    count = min(max(len(apart), _LOOKED_AT), _MAX_NAMED)
    highest = [named[index] for index in np.argsort(-np.asarray(scores), kind="stable")[:count]]
    found = {**training, "highest_images": highest, "images_apart": len(apart)}
    if not apart:
        return found
    first = ", ".join(highest[: len(apart)]) + ", ..." * (len(apart) > _MAX_NAMED)
    top, rest, limit = (
        score_text(score, calibration.typical, calibration.reject)
        for score in (scores[apart[0]], others_at_most(scores, apart), calibration.reject)
    )
    good = "they may show another product" if "two_products" in training else "train with more parts like them"
    learnt = "they were learnt as good, and " if calibration.method in CROSS else ""
    warning = (
        f"{len(apart)} of {len(scores)} good images score far above the others: {first} (up to {top}, the others at "
        f"most {rest}, the limit is {limit}). Look at them. Where they are defective, {learnt}defects like them may "
        f"pass: take them out and train again. Where they are good, {good}"
    )
    return {**found, "odd_images": [*training.get("odd_images", ()), warning]}


def look_at_highest(artifact: Artifact) -> list[str]:
    """Name the good images that score highest, for a person to look for faint defects, unless a warning names them."""
    calibration, training = artifact.learnt_graph.calibration, artifact.manifest.training
    highest = training.get("highest_images", ())
    if not highest or calibration is None or training["images_apart"] >= len(highest):
        return []
    how = ", each scored by what was learnt from the others" if calibration.method in CROSS else " held out"
    again = "take it out and train again"
    if "commissioned" in training:
        again = "commission again without that part (--keep-images FOLDER keeps them to look at)"
    return [
        f"Look once at the good images that score highest, of {len(calibration.scores)}{how}: {', '.join(highest)}. "
        f"A defect that lies among good images is often one of these: {again}."
    ]
