"""Likeness to the golden images that a detector ships with: proportions, size and order of colours."""

from __future__ import annotations

from collections.abc import Mapping

from edgead.detector.detector import Detector
from edgead.images.likeness import Look, learnt_shape, likeness_warnings, look_of


def unlike_golden(detector: Detector, looks: Mapping[str, Look], *, share: float = 0.0) -> list[str]:
    """Say in what images do not look as the golden ones, where more than this share of them do not.

    See `edgead.images.likeness.likeness_warnings`; a detector without golden images finds nothing.
    """
    known = _golden_looks(detector)
    if not known:
        return []
    spec = detector.artifact.manifest.preprocessing
    return likeness_warnings(
        looks,
        known,
        "the model's golden images",
        in_pixels=spec.roi is not None,
        stretched=spec.fill == "stretch",
        share=share,
    )


def squeezed_into(detector: Detector) -> Look | None:
    """The look of the images that a detector learnt, where others are squeezed into their proportions; else None."""
    if detector.artifact.manifest.preprocessing.fill != "stretch":
        return None
    known = _golden_looks(detector)
    return learnt_shape(known) if known else None


def _golden_looks(detector: Detector) -> list[Look]:
    return [look_of(detector.artifact.image(golden.image)) for golden in detector.graph.golden]
