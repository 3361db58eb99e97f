"""Known defects that other thresholds would let pass, and that are stopped now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgead.artifact.manifest import Calibration
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import load_image


def refuse_thresholds(detector: Detector, bad: Sequence[Path], before: Calibration, after: Calibration) -> None:
    """Measure bad parts, and raise SettingsError where one that the thresholds of before stop would be ok.

    Parameters
    ----------
    detector : Detector
        That the thresholds are for.
    bad : sequence of Path
        Images of defective parts.
    """
    if after.review <= before.review:
        return
    scores = [detector.measure(load_image(path)).image_score for path in bad]
    found = [(score, path) for score, path in zip(scores, bad, strict=True) if before.review < score <= after.review]
    if found:
        score, path = max(found)
        raise SettingsError(
            f"{len(found)} of {len(bad)} bad parts that are stopped now would be ok, {Path(*path.parts[-2:])} first: "
            f"it scores {score:.4g}, and parts would be ok up to {after.review:.4g} (were: {before.review:.4g}). Leave "
            "out good images that look like it, or take the mark of the bad part back if it was wrong"
        )
