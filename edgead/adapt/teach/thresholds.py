"""Thresholds of a taught model: between those that it had and the lowest that its guarantee allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgead.adapt.finalize import GoodScores
from edgead.artifact.manifest import Calibration
from edgead.calibration.conformal import raised


def settle(renewed: Calibration, old: Calibration, taught: GoodScores) -> Calibration:
    """Thresholds that follow the good scores down, but not what a single score of a small sample did.

    One that would become lower goes no further than the upper half of the good scores went on average, nor so low that
    a taught part which the old one lets pass is stopped: the guarantee holds for higher thresholds too.
    """
    follow = min(1.0, _upper_half(renewed.scores) / max(_upper_half(old.scores), 1e-12))
    seen = {"reject": taught.scores, "review": taught.scores, "map_threshold": taught.maxima}

    def settled(name: str) -> float:
        before = getattr(old, name)
        passing = (value for value in map(raised, seen[name]) if value <= before)
        return max([getattr(renewed, name), follow * before, *passing])

    return renewed.model_copy(update={name: settled(name) for name in seen})


def _upper_half(scores: Sequence[float]) -> float:
    """Mean of the upper half of sorted scores."""
    return float(np.mean(scores[len(scores) // 2 :]))
