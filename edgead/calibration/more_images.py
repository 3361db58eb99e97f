"""The limit with more good images: how far it would fall with twice as many, and how sure that is.

Ours. Good images are scored twice as ones that were not learnt: by what most of the others have taught, and by what
half of them have. What the scores fell by from half to all, they go on falling by, but less: of a doubling's fall the
next has `DAMPING`. A limit also hangs on which images come next: they are drawn again and again from the scores that
there are, smoothed, and the interval is what the limits of these draws do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgead.calibration.conformal import conformal_rank, conformal_threshold, images_needed

# Of the fall of the logarithm of scores by the last doubling, the next has so much; as many say it wrong by `ERROR`,
# one deviation. Both from bottle, deeppcb and tiles; see benchmarks/RESULTS.md.
DAMPING, ERROR = 0.5, 0.04
FEWEST = 8
# An interval that is wider says nothing: of the limit, from its lower to its upper end.
WIDEST = 0.4
_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Forecast:
    """With `images` instead of half as many the limit falls by the share `fall`, and by `low` to `high` in 9 of 10.

    Below 0 it rises.
    """

    images: int
    fall: float
    low: float
    high: float


def forecast(
    left_out: Sequence[float] | np.ndarray,
    of_halves: Sequence[float] | np.ndarray,
    false_reject_rate: float,
    *,
    learnt_share: float,
    seed: int = 0,
) -> Forecast | None:
    """Forecast the limit for a rate with twice as many good images.

    Parameters
    ----------
    left_out, of_halves : array_like of shape (n,)
        Scores of the same images: by what the share `learnt_share` of the images has taught, and by what half has.
    false_reject_rate : float
    learnt_share : float
        Above a half, at most 1.
    seed : int

    Returns
    -------
    Forecast or None
        None where it cannot be said: too few images, scores that are not above 0, or an interval that says nothing.
    """
    scores, halves = np.asarray(left_out, float), np.asarray(of_halves, float)
    count = len(scores)
    if count < max(FEWEST, images_needed(false_reject_rate)) or not min(scores.min(), halves.min()) > 0:
        return None
    rng = np.random.default_rng(seed)
    logs = np.log(scores)
    steps = (logs - np.log(halves)) * math.log(2) / math.log(2 * learnt_share)
    middle = DAMPING * float(np.median(steps))
    error = math.hypot(DAMPING * float(steps.std(ddof=1)) / math.sqrt(count), ERROR)
    # A smoothed bootstrap, by Silverman's rule: the scores of new images are no copies of those that there are.
    width = float(logs.std(ddof=1)) * (4 / (3 * count)) ** 0.2
    # What is known of new images is as uncertain as the scores that there are.
    known = rng.choice(logs, (_DRAWS, count))
    drawn = np.take_along_axis(known, rng.integers(count, size=(_DRAWS, count)), axis=1)
    new = drawn + width * rng.normal(size=known.shape)
    later = np.sort(np.concatenate([logs + np.zeros_like(new), new], axis=1), axis=1)
    later = later[:, conformal_rank(2 * count, false_reject_rate) - 1] + middle + error * rng.normal(size=_DRAWS)
    ratios = np.exp(later) / conformal_threshold(scores, false_reject_rate)
    low, fall, high = 1 - np.quantile(ratios, [0.95, 0.5, 0.05])
    return None if high - low > WIDEST else Forecast(2 * count, float(fall), float(low), float(high))
