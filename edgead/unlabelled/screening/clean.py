"""Images to learn from that look like defects among good parts, by mutual scores, and only where they stand out.

Ours. To leave out a fixed share costs on clean sets: good parts that are rare are what a model must know. So an image
is left out only if its score is far above what the scores of the others let expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgead.dataset.folders import StageProgress, no_progress
from edgead.unlabelled.screening.features import MutualScorer
from edgead.unlabelled.screening.mutual import FEWEST_PARTS
from edgead.unlabelled.screening.screeners import ScreenPlan

# In robust standard deviations of the logarithm of scores above their median.
FAR = 5.0
# Of parts; with fewer nothing is left out. Of 24 good cookies two were odd, and without them a model ranked worse (0.93
# for 1.00).
ENOUGH_PARTS = 50
# What more than a quarter of the images have in common is no exception.
MAX_SHARE = 0.25
_NAMED = 8


def stand_out(scores: npt.ArrayLike, far: float = FAR) -> list[int]:
    """Find scores that are far above the others.

    The spread is that of the lower half, which defects hardly touch: by the 16th percentile, a standard deviation below
    the median where logarithms of scores are normal.

    Parameters
    ----------
    scores : array_like of shape (n,)
        Mutual scores, above 0.
    far : float

    Returns
    -------
    list of int
        Indices, of the highest score first; at most a quarter of all.
    """
    values = np.log(np.maximum(np.asarray(scores, np.float64), np.finfo(np.float64).tiny))
    low, middle = np.percentile(values, (16, 50))
    order = np.argsort(-values, kind="stable")
    above = order[values[order] > middle + far * max(middle - low, 1e-3)]
    return above[: int(MAX_SHARE * len(values))].tolist()


def clean_warnings(suspicious: Sequence[Path]) -> list[str]:
    """One sentence that names images that were not learnt; none where there are none."""
    if not suspicious:
        return []
    named = ", ".join(path.name for path in suspicious[:_NAMED]) + ", ..." * (len(suspicious) > _NAMED)
    return [
        f"{len(suspicious)} images stand out as defects do and were not learnt: {named}. Look at them; train without "
        "--clean if they are good"
    ]


def suspicious_images(
    paths: Sequence[Path],
    parts: Sequence[int],
    *,
    roi: tuple[int, ...] | None = None,
    progress: StageProgress = no_progress,
) -> list[Path]:
    """Find images that should not be learnt, the most suspicious first; none where the parts are few."""
    if len(set(parts)) < max(FEWEST_PARTS, ENOUGH_PARTS):
        return []
    scores, _ = MutualScorer(ScreenPlan(roi=roi))(paths, parts, progress)
    return [paths[index] for index in stand_out(scores)]
