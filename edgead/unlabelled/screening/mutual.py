"""Mutual scores: distances of each unlabelled image's patches to the patches of most other images.

Edgead's own, after MuSc (Li et al., "MuSc: Zero-shot industrial anomaly classification and segmentation with mutual
scoring of the unlabeled images", ICLR 2024, arXiv 2401.16753). From MuSc are the means over neighbourhoods of several
sizes (`neighbourhood_mean`), the average over the images nearest to a patch (`interval_average`) and the constraint by
similar images (`constrain`). Edgead's are the features, their scale and metric, the exclusion of images of the same
part, the second round with trusted images, and the image score from patches. So the scores differ from MuSc's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgead.kernels import GroupedPatches

Floats = npt.NDArray[np.float32]

# Largest number of images compared with each other at once: 0.13 GB at 14 x 14 patches.
MAX_IMAGES = 400
FEWEST_PARTS = 3
# MuSc's choice for MVTec AD: each image alone, with one and with two others.
ALIKE = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class MutualRule:
    """Parameters of mutual scores. Defaults were fixed before any measurement: `interval` and `alike` are the paper's.

    `interval`: a patch's score is its mean distance to this share of the other images, the nearest. A defect that a
        larger share of the parts has is invisible.
    `trusted`: in a second round, patches are compared only with this share of the images, which scored lowest in the
        first; 0 for no second round.
    `nearest`: the `interval` of the second round, a share of the trusted images.
    `reaches`: sides, in patches, of the neighbourhoods whose mean is compared; odd.
    `top`: share of an image's patches with the highest scores, whose mean is the image score.
    `alike`: numbers of similar images, itself included, by which scores are constrained; empty for no constraint.
    """

    interval: float = 0.3
    trusted: float = 0.5
    nearest: float = 0.05
    reaches: tuple[int, ...] = (1, 3)
    top: float = 0.01
    alike: tuple[int, ...] = ()


def mutual_scores(
    features: Floats, parts: Sequence[int], rule: MutualRule, progress: Callable[[int, int], object] | None = None
) -> tuple[npt.NDArray[np.float64], Floats]:
    """Score each image by its distances to the others.

    `features` (ndarray of shape (n, h, w, d), float32): patch features on a common scale.
    `parts`: number of the part in each image; images of one part are not compared. At least three parts.
    `progress`: called with (done, total).
    Returns ndarray of shape (n,), float64: image scores, higher is more anomalous; comparable only within one call.
    Returns ndarray of shape (n, h, w), float32: patch scores.
    """
    n, h, w, _ = features.shape
    apart = np.asarray(parts)[:, None] != np.asarray(parts)
    maps = np.zeros((n, h * w), np.float32)
    for turn, reach in enumerate(rule.reaches):
        distances = _distances(
            [neighbourhood_mean(image, reach) for image in features],
            progress and (lambda done, turn=turn: progress(turn * n + done, len(rule.reaches) * n)),
        )
        maps += _patch_scores(distances, apart, rule) / np.float32(len(rule.reaches))
    scores = _image_scores(maps, rule.top)
    if rule.alike:
        scores = constrain(scores, features.mean(axis=(1, 2)), rule.alike)
    return scores, maps.reshape(n, h, w)


def neighbourhood_mean(features: Floats, reach: int) -> Floats:
    """Average features, (h, w, d), over reach x reach patches, with zeros outside; returns (h * w, d)."""
    h, w, d = features.shape
    margin = reach // 2
    padded = np.pad(features, ((margin, margin), (margin, margin), (0, 0)))
    total = np.zeros((h, w, d), np.float32)
    for row in range(reach):
        for column in range(reach):
            total += padded[row : row + h, column : column + w]
    return (total / np.float32(reach * reach)).reshape(h * w, d)


def interval_average(distances: Floats, apart: npt.NDArray[np.bool_], share: float) -> Floats:
    """Average the distances of each patch to the nearest images.

    `distances` (ndarray of shape (p, n), float32): distances of one image's patches to the nearest patch of each image.
    `apart` (ndarray of shape (n,), bool): true for the images that count.
    `share`: share of these images to average, the nearest; at least one is used.
    Returns ndarray of shape (p,), float32: averages, which do not depend on the order of images, to the last digit.
    """
    others = distances[:, apart]
    count = max(1, int(share * others.shape[1]))
    nearest = np.sort(np.partition(others, count - 1, axis=1)[:, :count], axis=1)
    return nearest.mean(axis=1, dtype=np.float64).astype(np.float32)


def constrain(
    scores: npt.NDArray[np.float64], descriptors: Floats, alike: Sequence[int], *, least_cosine: float = 0.0
) -> npt.NDArray[np.float64]:
    """Move the scores of images towards those of similar images: MuSc's RsCIN.

    `scores`: ndarray of shape (n,), float64.
    `descriptors` (ndarray of shape (n, d), float32): descriptors of whole images.
    `alike`: numbers of most similar images over which scores are averaged, weighted by the cosine; the result is the
        mean over all these numbers. 1 is the image itself.
    `least_cosine`: lower bound of the weights; -1 is the paper's, whose embeddings of one product are all similar.
    Returns ndarray of shape (n,), float64: constrained scores, from 0 to 1.
    """
    low, high = scores.min(), scores.max()
    scaled = (scores - low) / max(high - low, np.finfo(np.float64).tiny)
    rows = descriptors.astype(np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    cosines = np.maximum(np.einsum("id,jd->ij", rows, rows), least_cosine)
    np.fill_diagonal(cosines, 1)
    order = np.argsort(-cosines, axis=1, kind="stable")
    found = []
    for count in alike:
        nearest = order[:, :count]
        weights = np.take_along_axis(cosines, nearest, axis=1)
        found.append((weights * scaled[nearest]).sum(axis=1) / weights.sum(axis=1))
    return np.asarray(np.mean(found, axis=0), np.float64)


def _distances(patches: Sequence[Floats], progress: Callable[[int], object] | None) -> Floats:
    """Compute the distance of each patch of each image to the nearest patch of every image, float32 (n, p, n)."""
    index = GroupedPatches(np.concatenate(patches), [len(rows) for rows in patches])
    distances = np.empty((len(patches), len(patches[0]), len(patches)), np.float32)
    for number, rows in enumerate(patches):
        distances[number] = index.search(rows)
        if progress:
            progress(number + 1)
    return distances


def _patch_scores(distances: Floats, apart: npt.NDArray[np.bool_], rule: MutualRule) -> Floats:
    first = np.stack([interval_average(*pair, rule.interval) for pair in zip(distances, apart, strict=True)])
    if not rule.trusted:
        return first
    order = np.argsort(_image_scores(first, rule.top), kind="stable")
    trusted = np.zeros(len(order), bool)
    trusted[order[: max(FEWEST_PARTS, int(rule.trusted * len(order)))]] = True
    second = np.empty_like(first)
    for number, (rows, others) in enumerate(zip(distances, apart & trusted, strict=True)):
        second[number] = interval_average(rows, others if others.any() else apart[number], rule.nearest)
    return second


def _image_scores(maps: Floats, top: float) -> npt.NDArray[np.float64]:
    count = max(1, round(top * maps.shape[1]))
    highest = np.sort(np.partition(maps, -count, axis=1)[:, -count:], axis=1)
    return highest.mean(axis=1, dtype=np.float64)
