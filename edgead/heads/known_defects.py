"""Score of known defects: likeness of patches to marked defects, by which the image score is raised.

Ridge logistic regression of the marked defects' mean patches against the good rows of the memory bank, with equal
weight of both. The bank has as many rare good patches as common ones, so that a rare one is not taken for a defect.

The image score is that of unknown defects, raised if this one is high: see `KnownDefects.joined`.
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
# Ridge penalty, for features with a mean variance of 1, and step size at which the fit has converged.
RIDGE, CLOSE, MAX_STEPS = 0.03, 1e-4, 50
# Share of the highest good rows that sets the scale of a direction: the deviation of all rows says little about the
# highest ones, and the single highest one differs from fold to fold.
HIGHEST = 0.01

_Value = Annotated[float, Field(ge=-1e30, le=1e30)]
_T = TypeVar("_T")
_OfKinds = Annotated[tuple[_T, ...], Field(min_length=1, max_length=MAX_KINDS)]


class KnownDefects(BaseModel):
    """Rise of the image score by known defects: from which score of known defects, and how steeply.

    Attributes
    ----------
    start : tuple of float
        Score of each kind of known defect at which the lift begins; most good images are below it and keep their score.
    slope : tuple of float
        Rise of the image score per unit of each kind's score above its start; the kind with the largest lift counts.
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
        """Compute the lift, 0 or more, (...), from the scores of known defects (kinds, ...)."""
        shape = (-1, *(1,) * (known.ndim - 1))
        start, slope = np.reshape(self.start, shape), np.reshape(self.slope, shape)
        return (slope * np.maximum(known - start, 0)).max(axis=0)

    def joined(self, unknown: float, known: np.ndarray) -> float:
        """Add the lift of the known defects' scores (kinds,) to the image score of unknown defects."""
        return unknown + float(self.lift(known))

    def on_map(self, patch_scores: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Add the lift of the maps of known defects (kinds, h, w) to patch scores (h, w)."""
        return (patch_scores + self.lift(known)).astype(patch_scores.dtype)


def fit_directions(bank: np.ndarray, defects: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit the direction in feature space that separates marked defects from good patches, one for each kind.

    `bank` (ndarray of shape (m, d)): good rows.
    `defects` (ndarray of shape (n, d)): the mean patch of each marked defect.
    `kinds` (ndarray of shape (n,) or (n, 1)): kind of each defect, or `NO_KIND` if its kind has too few for a
        direction.
    Returns directions, ndarray of shape (d, k), float64: factors of patch features, scaled so that the highest
        hundredth of good rows has a mean score of 1 for each kind: all kinds are on one scale.
    And offsets, ndarray of shape (k,), float64: added to the products, so that good rows have a mean score of 0.
    """
    good, of_kind = bank.astype(np.float64), kinds.reshape(-1)
    mean = good.mean(axis=0)
    centred = good - mean
    tiny = float(np.finfo(np.float32).tiny)
    unit = float(np.sqrt(np.square(centred).mean())) or 1.0  # identical rows have no variance
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
        # Residual of each row: the probability of the wrong class.
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
    """Scorer of known defects.

    `head`: head whose windows and margin the image score uses.
    `grid`: height and width of the patch grid.
    `bank` (ndarray of shape (m, d), float32): good rows.
    `defects`, `kinds` (ndarrays of shape (n, d) and (n, 1), float32): see `fit_directions`.
    """

    def __init__(
        self, head: PatchHead, grid: tuple[int, int], bank: np.ndarray, defects: np.ndarray, kinds: np.ndarray
    ):
        directions, offsets = fit_directions(bank, defects, kinds)
        self._directions, self._offsets = directions.astype(np.float32), offsets.astype(np.float32)
        self._image = ImageScorer(plain(head), grid)

    def patch_scores(self, features: np.ndarray) -> np.ndarray:
        """Score the patches (h, w, d) of an image for each kind, float32 (kinds, h, w)."""
        flat = features.reshape(-1, features.shape[-1])
        return (flat @ self._directions + self._offsets).T.reshape(-1, *self._image.grid)

    def image_scores(self, patch_scores: np.ndarray) -> np.ndarray:
        """Score an image by its patches for each kind, (kinds,), over the same windows as for unknown defects."""
        return np.array([self._image.image_score(np.ascontiguousarray(of_kind)) for of_kind in patch_scores])

    def join(self, options: KnownDefects, features: np.ndarray, unknown: Scored) -> Scored:
        """Raise the head's scores of unknown defects by those of known ones, in the image score and on the map."""
        patches = self.patch_scores(features)
        known = self.image_scores(patches)
        patch_scores, image_score = unknown.patch_scores, options.joined(unknown.image_score, known)
        if image_score > unknown.image_score:
            patch_scores = options.on_map(patch_scores, smoothed(patches, self._image.head.window))
        return replace(unknown, patch_scores=patch_scores, image_score=image_score)


def plain(head: PatchHead) -> PatchHead:
    """Copy a head without its graph's score, so that it scores by patches alone."""
    return head.model_copy(update={"by_place": False, "patch_weight": 1.0, "graph_weight": 0.0})


def smoothed(patches: np.ndarray, window: int) -> np.ndarray:
    """Average patch scores (kinds, h, w) over the window around each patch, margin included."""
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
    """Reference of `KnownScorer.join` in float64: returns the raised image score and patch scores.

    `features`: ndarray of shape (h, w, d), float64.
    `unknown`: (float, ndarray of shape (h, w), float64).
    """
    score, scores = unknown
    directions, offsets = fit_directions(bank, arrays[DEFECTS], arrays[DEFECT_KINDS])
    patches = np.moveaxis(features @ directions + offsets, -1, 0)
    known = np.array([plain(head).reference_of(of_kind, {}, of_kind.shape)[0] for of_kind in patches])
    joined = options.joined(score, known)
    return joined, options.on_map(scores, smoothed(patches, head.window)) if joined > score else scores
