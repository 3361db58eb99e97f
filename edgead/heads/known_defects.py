"""Score of known defects: how much patches look like marked defects, and how it lifts the image score.

Ridge logistic regression of the marked defects' mean patches against the good rows of the memory bank, both sides
weighing the same. The bank has rare good patches as much as common ones, so that what good parts seldom show is not
taken for a defect.

The image score is that of unknown defects, lifted where this one is high: see `KnownDefects.joined`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, TypeVar

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

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
_T = TypeVar("_T")
_OfKinds = Annotated[tuple[_T, ...], Field(min_length=1, max_length=MAX_KINDS)]


class KnownDefects(BaseModel):
    """Options: from where on, and how steeply, the scores of known defects lift the image score.

    Attributes
    ----------
    start : tuple of float
        Of the score of each kind of known defects; most good images are below it, and keep the score that they had.
    slope : tuple of float
        By how much the image score rises with the score of each kind above its start; the kind that lifts most counts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    start: _OfKinds[_Value]
    slope: _OfKinds[Annotated[float, Field(ge=0, le=1e30)]]

    @model_validator(mode="after")
    def _has_both_of_each(self) -> KnownDefects:
        if len(self.start) != len(self.slope):
            raise ValueError(f"known defects have {len(self.start)} starts and {len(self.slope)} slopes")
        return self

    def lift(self, known: np.ndarray) -> np.ndarray:
        """What scores by known defects, (kinds, ...), add to that of unknown ones: 0 or more, (...)."""
        shape = (-1, *(1,) * (known.ndim - 1))
        start, slope = np.reshape(self.start, shape), np.reshape(self.slope, shape)
        return (slope * np.maximum(known - start, 0)).max(axis=0)

    def joined(self, unknown: float, known: np.ndarray) -> float:
        """The image score: that of unknown defects, lifted by those of the kinds of known ones."""
        return unknown + float(self.lift(known))

    def on_map(self, patch_scores: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Patch scores (h, w) lifted by maps of the kinds of known defects (kinds, h, w)."""
        return (patch_scores + self.lift(known)).astype(patch_scores.dtype)


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
        """Score the patches (h, w, d) of an image by each kind, float32 (kinds, h, w)."""
        flat = features.reshape(-1, features.shape[-1])
        return (flat @ self._directions + self._offsets).T.reshape(-1, *self._image.grid)

    def image_scores(self, patch_scores: np.ndarray) -> np.ndarray:
        """Score an image by its patches for each kind, (kinds,), over the same windows as for unknown defects."""
        return np.array([self._image.image_score(np.ascontiguousarray(of_kind)) for of_kind in patch_scores])

    def join(self, options: KnownDefects, features: np.ndarray, unknown: Scored) -> Scored:
        """Join with what the head says of unknown defects; where known ones lift it, the map shows where they are."""
        patches = self.patch_scores(features)
        known = self.image_scores(patches)
        patch_scores, image_score = unknown.patch_scores, options.joined(unknown.image_score, known)
        if image_score > unknown.image_score:
            patch_scores = options.on_map(patch_scores, smoothed(patches, self._image.head.window))
        return replace(unknown, patch_scores=patch_scores, image_score=image_score)


def plain(head: PatchHead) -> PatchHead:
    """The head's windows, and nothing else that it scores by."""
    return head.model_copy(update={"by_place": False, "patch_weight": 1.0, "graph_weight": 0.0})


def smoothed(patches: np.ndarray, window: int) -> np.ndarray:
    """Means over windows around each patch, (kinds, h, w): what image scores are made of, without their margin."""
    return np.stack(
        [cv2.blur(np.ascontiguousarray(each), (window, window), borderType=cv2.BORDER_REPLICATE) for each in patches]
    )


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
    patches = np.moveaxis(features @ directions + offsets, -1, 0)
    known = np.array([plain(head).reference_of(of_kind, {}, of_kind.shape)[0] for of_kind in patches])
    joined = options.joined(score, known)
    return joined, options.on_map(scores, smoothed(patches, head.window)) if joined > score else scores
