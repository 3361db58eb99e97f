"""Space in which patches are compared: a scale and a metric, learnt from good patches, applied by every graph.

The scale: the channels of ImageNet features differ by orders of magnitude, so each is standardised by its mean and
deviation over the good images. Where lengths are damped, the vector x that a patch has in each layer is divided by
sqrt(|x|^2 + r^2), with r the median length over good patches. Long vectors are then compared by direction (their length
follows contrast and light, which differ between good parts), short ones keep their length (scaled to 1, their noise
would be compared), and layers with many channels do not outvote those with few.

The metric: directions in which good parts differ from each other count for less. Edgead's own; a relative of
within-class covariance normalisation (Hatch and Stolcke, ICASSP 2006). The difference between a good patch and the
nearest patch of other good parts is no defect: light, grain, a slight turn. The covariance of these residuals gives the
directions of such changes; its inverse root gives all directions equal variance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgead.kernels import NearestPatches, greedy_coreset

BLOCK = 65536
# Number of sets of good parts, each of which is compared with the others; groups are never separated.
PARTS = 5
# Numbers of compared patches, and of rows of other parts (greedy k-centre of a sample) that they are compared with.
QUERIES, SAMPLE, ROWS = 40_000, 60_000, 5_000
# Share of the mean variance that is added to every direction, so that no factor exceeds 1 / sqrt(SHRINKAGE).
SHRINKAGE = 0.05
# For two halves of channels: least number of groups, rows that an image is compared with, patches of an image that
# count, and largest ratio of the factors.
FEWEST_COMPARED, COMPARED_ROWS, FARTHEST, MOST_LOUDER = 10, 2_000, 10, 2.0


@dataclass(frozen=True, slots=True)
class FeatureScale:
    """Scale of the features: means and deviations of the channels, and the squared median length in each layer.

    `mean`, `inverse_std`: ndarray of shape (d,), float32.
    `squared_length`: ndarray of shape (layers,), float32.
    `channels`: channels of each layer; d in all.
    `damps`: whether lengths are damped.
    """

    mean: np.ndarray
    inverse_std: np.ndarray
    squared_length: np.ndarray
    channels: Sequence[int]
    damps: bool

    def standardise(self, features: np.ndarray) -> None:
        """Standardise raw features, float32 (n, d), in place."""
        for block in _blocks(features):
            block -= self.mean
            block *= self.inverse_std
            if self.damps:
                scale = 1 / np.sqrt(_squared_lengths(block, self.channels) + self.squared_length)
                for i, layer in enumerate(_layers(block, self.channels)):
                    layer *= scale[:, i : i + 1]


def fit_scale(features: np.ndarray, channels: Sequence[int], *, damps: bool) -> FeatureScale:
    """Learn the scale from raw features of good images.

    `features`: ndarray of shape (n, d), float32.
    `channels`: channels of each layer; d in all.
    `damps`: whether lengths are damped.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    squares = sum(np.square(block - mean).sum(axis=0) for block in _blocks(features))
    std = np.sqrt(squares / len(features))
    # A constant channel carries no information; dividing by its deviation would amplify noise.
    moves = std > 1e-6
    inverse_std = np.where(moves, 1 / np.where(moves, std, 1), 0).astype(np.float32)
    mean = mean.astype(np.float32)
    lengths = np.concatenate([_squared_lengths((x - mean) * inverse_std, channels) for x in _blocks(features)])
    middle = (len(lengths) - 1) // 2
    squared_length = np.maximum(np.partition(lengths, middle, axis=0)[middle], 1e-6)
    return FeatureScale(mean, inverse_std, squared_length.astype(np.float32), tuple(channels), damps)


def _blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(features), BLOCK):
        yield features[start : start + BLOCK]


def _layers(features: np.ndarray, channels: Sequence[int]) -> list[np.ndarray]:
    return np.split(features, np.cumsum(channels)[:-1], axis=1)


def _squared_lengths(features: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    return np.stack([np.square(layer).sum(axis=1) for layer in _layers(features, channels)], axis=1)


@dataclass(frozen=True, slots=True)
class FeatureMetric:
    """Learnt metric of patches: matrices that weaken directions in which good parts differ from each other.

    `matrix` (ndarray of shape (d, d), float32): symmetric matrix that patches are multiplied by before they are
        compared.
    `without` (ndarray of shape (folds x d, d), float32): one (d, d) matrix for each fold, stacked. Applied to patches
        already multiplied by `matrix`, it gives the metric as if that fold had not been learnt. Empty if no folds were
        asked for.
    """

    matrix: np.ndarray
    without: np.ndarray


def fit_metric(
    patches: np.ndarray,
    groups: Sequence[int] | np.ndarray,
    *,
    folds: Sequence[int] | np.ndarray = (),
    seed: int = 0,
    halves: bool = False,
) -> FeatureMetric:
    """Learn the metric from patches of good images.

    A metric lowers the scores of images that it was learnt from: with 60 good parts, by half a standard deviation. So
    with `folds` it is also learnt without each fold, from residuals between patches of other folds.

    `patches` (ndarray of shape (n, d), float32): standardised by `FeatureScale`; the same number from every image,
        image by image.
    `groups`: group of each image; images of one part, one batch or one light share a number.
    `folds`: the fold of each image, from 0 on; see `edgead.adapt.memory_bank.folds`.
    `halves`: whether the two halves of the channels come from different cameras; each half then gets a metric of its
        own.
    Returns the learnt metric; the identity if all images are in one group.
    """
    of_image, of_fold = np.asarray(groups), np.asarray(folds, int)
    distinct, width = np.unique(of_image), patches.shape[1]
    of_patch = len(patches) // len(of_image)
    rng = np.random.default_rng(seed)
    part_of_group = dict(zip(rng.permutation(distinct).tolist(), np.arange(len(distinct)) % PARTS, strict=True))
    part = np.repeat([part_of_group[group] for group in of_image.tolist()], of_patch)
    fold = np.repeat(of_fold, of_patch)
    sample = _some(np.arange(len(patches)), SAMPLE, rng)
    rows = sample[greedy_coreset(patches[sample], min(ROWS, len(sample)))] if len(distinct) > 1 else sample[:0]
    covariance = np.zeros((width, width))
    touched, search = np.zeros((int(of_fold.max(initial=-1)) + 1, width, width)), None
    for number in np.unique(part):
        own, others = np.flatnonzero(part == number), rows[part[rows] != number]
        if not len(others):
            continue
        queries = _some(own, QUERIES * len(own) // len(patches), rng)
        search = NearestPatches(patches[others], like=search)
        _, nearest = search.search(patches[queries])
        references = others[nearest[:, 0]]
        residuals = (patches[queries] - patches[references]).astype(np.float64)
        covariance += residuals.T @ residuals
        for left_out in range(len(touched)):
            of_it = residuals[(fold[queries] == left_out) | (fold[references] == left_out)]
            touched[left_out] += of_it.T @ of_it
    if halves:
        half = np.arange(width) < width // 2
        apart = half[:, None] == half
        covariance, touched = covariance * apart, touched * apart
    matrix = inverse_root(covariance)
    back = np.linalg.inv(matrix.astype(np.float64))
    without = [back @ inverse_root(covariance - of_it) for of_it in touched]
    return FeatureMetric(matrix, np.array(without, np.float32).reshape(-1, width))


def equal_loudness(patches: np.ndarray, groups: Sequence[int] | np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """Find factors for the two halves of the channels, so that neither dominates the scores of good parts.

    Squared distances of the halves add up, and a defect seen in one half must not be hidden by the variation of good
    parts in the other. So each half alone scores each good image against other groups, by the image's farthest patches;
    the factors make the squared scores of both halves deviate equally among images. Edgead's own; see
    benchmarks/RESULTS.md.

    `patches` (ndarray of shape (n, d), float32): multiplied by their metric; the same number from every image, image by
        image.
    `groups`: group of each image.
    Returns factors of both halves: their product is 1, their ratio at most `MOST_LOUDER`. Both are 1 for few groups.
    """
    of_image = np.asarray(groups)
    distinct = np.unique(of_image)
    if len(distinct) < FEWEST_COMPARED:
        return 1.0, 1.0
    rng = np.random.default_rng(seed)
    first = np.isin(of_image, rng.permutation(distinct)[: len(distinct) // 2])
    of_patch = len(patches) // len(of_image)
    rows = [_some(np.flatnonzero(np.repeat(side, of_patch)), COMPARED_ROWS, rng) for side in (~first, first)]
    spread = []
    for half in np.split(patches, 2, axis=1):
        squares = np.empty(len(of_image))
        for side, others in zip((first, ~first), rows, strict=True):
            search = NearestPatches(half[others])
            for image in np.flatnonzero(side):
                own = half[image * of_patch : (image + 1) * of_patch]
                distance, _ = search.search(np.ascontiguousarray(own))
                squares[image] = np.square(np.sort(distance[:, 0])[-FARTHEST:].mean())
        spread.append(float(squares.std()))
    ratio = float(np.clip((spread[0] / max(spread[1], 1e-12)) ** 0.5, 1 / MOST_LOUDER, MOST_LOUDER))
    return ratio**-0.5, ratio**0.5


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.choice(rows, min(len(rows), max(1, most)), replace=False))


def inverse_root(covariance: np.ndarray) -> np.ndarray:
    """Scale a covariance (d, d) to mean variance 1, shrink it to the identity; return its inverse root, float32."""
    values, vectors = np.linalg.eigh(covariance)
    mean = values.mean()
    if not mean > 0:  # good parts that are copies of each other
        return np.eye(len(values), dtype=np.float32)
    shrunk = (1 - SHRINKAGE) * np.maximum(values, 0) / mean + SHRINKAGE
    root = (vectors / np.sqrt(shrunk)) @ vectors.T
    return root.astype(np.float32)
