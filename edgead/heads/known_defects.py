"""Score of known defects: how much patches look like marked defects, and how it lifts the image score.

Ridge logistic regression of the marked defects' mean patches against the good rows of the memory bank, both sides
weighing the same. The bank has rare good patches as much as common ones, so that what good parts seldom show is not
taken for a defect.

The image score is that of unknown defects, lifted where this one is high: see `KnownDefects.joined`.
"""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgead.heads.contract import Arrays, Scored
from edgead.heads.patches import ImageScorer, PatchHead

DEFECTS, DEFECT_KINDS = "known_defects", "known_defect_kinds"
MAX_DEFECTS, MAX_KINDS = 1000, 32
NO_KIND = -1
# The ridge, where features have a mean variance of 1, and where the fit of it has ended.
RIDGE, CLOSE, MAX_STEPS = 0.03, 1e-4, 50
# Of good rows the highest share says what scale a direction has: the deviation of all says little of the highest ones,
# and the highest one alone differs from fold to fold.
HIGHEST = 0.01

_Value = Annotated[float, Field(ge=-1e30, le=1e30)]


class KnownDefects(BaseModel):
    """Options: from where on, and how steeply, the score of known defects lifts the image score.

    Attributes
    ----------
    start : float
        Of the score of known defects; most good images are below it, and keep the score that they had.
    slope : float
        By how much the image score rises with this score above the start.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    start: _Value
    slope: Annotated[float, Field(ge=0, le=1e30)]

    def joined(self, unknown: float, known: float) -> float:
        """The image score: that of unknown defects, lifted by what that of known ones is above the start."""
        return unknown + self.slope * max(known - self.start, 0.0)

    def on_map(self, patch_scores: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Patch scores (h, w) lifted by a map of known defects (h, w)."""
        return (patch_scores + self.slope * np.maximum(known - self.start, 0)).astype(patch_scores.dtype)


def fit_directions(bank: np.ndarray, defects: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find in which directions marked defects differ from good patches, one direction a kind.

    Parameters
    ----------
    bank : ndarray of shape (m, d)
        Good rows.
    defects : ndarray of shape (n, d)
        The mean patch of each marked defect.
    kinds : ndarray of shape (n,) or (n, 1)
        The kind of each, or `NO_KIND` for those that are too few of theirs for a direction.

    Returns
    -------
    directions : ndarray of shape (d, k), float64
        Patches are multiplied with them. The highest hundredth of good rows has a mean of 1 in each then, so that kinds
        are on one scale.
    offsets : ndarray of shape (k,), float64
        Are added: good rows have a mean of 0 then.
    """
    good, of_kind = bank.astype(np.float64), kinds.reshape(-1)
    mean = good.mean(axis=0)
    centred = good - mean
    tiny = float(np.finfo(np.float32).tiny)
    unit = float(np.sqrt(np.square(centred).mean())) or 1.0  # rows that are all alike have none
    named = np.unique(of_kind[of_kind != NO_KIND])
    marked = [(defects[of_kind == kind].astype(np.float64) - mean) / unit for kind in named]
    directions = np.stack([_fit_direction(centred / unit, one) for one in marked], axis=1)
    highest = max(1, round(HIGHEST * len(good)))
    tails = np.sort(centred @ directions, axis=0)[-highest:].mean(axis=0)
    directions /= np.maximum(tails, tiny)
    return directions, -mean @ directions


def _fit_direction(good: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Ridge logistic regression by Newton's method: the direction (d,) from good rows (m, d) to marked ones (n, d)."""
    rows = np.concatenate([good, marked])
    rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    sign = np.repeat([-1.0, 1.0], [len(good), len(marked)])
    weight = np.repeat([1 / len(good), 1 / len(marked)], [len(good), len(marked)])
    ridge = np.full(rows.shape[1], RIDGE)
    ridge[-1] = 0.0  # the offset is free

    def loss(at: np.ndarray) -> float:
        return float(weight @ np.logaddexp(0, -sign * (rows @ at)) + ridge @ np.square(at) / 2)

    at, best = np.zeros(rows.shape[1]), np.inf
    for _ in range(MAX_STEPS):
        # What a row still says: the probability of the wrong side.
        wrong = 1 / (1 + np.exp(np.clip(sign * (rows @ at), -700, 700)))
        slope = ridge * at - (weight * sign * wrong) @ rows
        curvature = (rows * (weight * wrong * (1 - wrong))[:, None]).T @ rows + np.diag(ridge)
        step = np.linalg.solve(curvature, slope)
        while (now := loss(at - step)) > best:
            step /= 2
        at = at - step
        if best - now <= CLOSE * now:
            break
        best = now
    return at[:-1]


class KnownScorer:
    """Scores frames by known defects.

    Parameters
    ----------
    head : PatchHead
        Whose windows and margin the image score is made with.
    grid : (int, int)
        Height and width of the patch grid.
    bank : ndarray of shape (m, d), float32
        Good rows.
    defects, kinds : ndarrays of shape (n, d) and (n, 1), float32
        See `fit_directions`.
    """

    def __init__(
        self, head: PatchHead, grid: tuple[int, int], bank: np.ndarray, defects: np.ndarray, kinds: np.ndarray
    ):
        directions, offsets = fit_directions(bank, defects, kinds)
        self._directions, self._offsets = directions.astype(np.float32), offsets.astype(np.float32)
        self._image = ImageScorer(plain(head), grid)

    def patch_scores(self, features: np.ndarray) -> np.ndarray:
        """Score the patches (h, w, d) of an image, float32 (h, w): by the kind that each is most like."""
        flat = features.reshape(-1, features.shape[-1])
        return (flat @ self._directions + self._offsets).max(axis=1).reshape(self._image.grid)

    def image_score(self, patch_scores: np.ndarray) -> float:
        """Score an image by its patches, over the same windows as the score of unknown defects."""
        return self._image.image_score(patch_scores)

    def join(self, options: KnownDefects, features: np.ndarray, unknown: Scored) -> Scored:
        """Join with what the head says of unknown defects; where a known one lifts it, the map shows where it is."""
        patches = self.patch_scores(features)
        known = self.image_score(patches)
        patch_scores = unknown.patch_scores
        if known > options.start:
            patch_scores = options.on_map(patch_scores, smoothed(patches, self._image.head.window))
        return Scored(patch_scores, options.joined(unknown.image_score, known))


def plain(head: PatchHead) -> PatchHead:
    """The head's windows, and nothing else that it scores by."""
    return head.model_copy(update={"by_place": False, "patch_weight": 1.0, "graph_weight": 0.0})


def smoothed(patches: np.ndarray, window: int) -> np.ndarray:
    """Means over windows around each patch, (h, w): what the image score is made of, without its margin."""
    return cv2.blur(patches, (window, window), borderType=cv2.BORDER_REPLICATE)


def reference_join(
    options: KnownDefects,
    head: PatchHead,
    arrays: Arrays,
    bank: np.ndarray,
    features: np.ndarray,
    unknown: tuple[float, np.ndarray],
) -> tuple[float, np.ndarray]:
    """Join plainly in float64: image score and patch scores from those of unknown defects.

    Parameters
    ----------
    features : ndarray of shape (h, w, d), float64
    unknown : (float, ndarray of shape (h, w), float64)
    """
    score, scores = unknown
    directions, offsets = fit_directions(bank, arrays[DEFECTS], arrays[DEFECT_KINDS])
    patches = (features @ directions + offsets).max(axis=-1)
    known, _ = plain(head).reference_of(patches, {}, patches.shape)
    if known > options.start:
        scores = options.on_map(scores, smoothed(patches, head.window))
    return options.joined(score, known), scores
