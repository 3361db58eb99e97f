"""Classification of rejects by kind: the most similar known kind, or unknown if all are too far."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.artifact.kinds import DESCRIPTOR, Kinds
from edgead.artifact.manifest import Manifest
from edgead.calibration.group_conformal import Ranking
from edgead.heads.nearest import BANK
from edgead.types import UNKNOWN_KIND

logger = logging.getLogger(__name__)

# Kernel width in median distances of examples. Ours, like the ridge: chosen on one split of the magnetic tiles, bottles
# and boards.
_WIDTH = 0.7
_RIDGE = 0.3
_TINY = float(np.finfo(np.float32).tiny)
# Number of nearest parts: two, as one example may be odd. Ours, chosen on one split of the magnetic tiles.
_NEAREST_PARTS = 2


class KindRegression:
    """Kernel ridge regression from distances to a score for each kind.

    `distances` (ndarray of shape (m, m), float64): distances between the examples.
    `labels`: kind of each example, from 0 on.
    """

    def __init__(self, distances: np.ndarray, labels: Sequence[int]):
        self._width = _WIDTH * float(np.median(distances)) or 1.0
        targets = 2 * np.eye(max(labels) + 1)[list(labels)] - 1
        self._mean = targets.mean(axis=0)
        kernel = self._kernel(distances)
        kernel[np.diag_indices(len(kernel))] += _RIDGE
        self._weights = np.linalg.solve(kernel, targets - self._mean)

    def scores(self, distances: np.ndarray) -> np.ndarray:
        """Compute scores (n, kinds), float64, from distances (n, m) to the examples."""
        return np.asarray(self._kernel(distances) @ self._weights + self._mean)

    def _kernel(self, distances: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * np.square(distances / self._width))


def residual_scale(descriptors: np.ndarray) -> float:
    """Compute the factor that makes the median length of the residuals in descriptors (m, 3 d) equal to 1."""
    residuals = _parts(descriptors)[:, 0]
    median = float(np.median(np.linalg.norm(residuals.astype(np.float64), axis=1)))
    return 1.0 if median < _TINY else 1 / median


def to_know(descriptors: np.ndarray, scale: float) -> np.ndarray:
    """Select features to recognise kinds from descriptors (m, 3 d): scaled residuals, contrasts, float32 (m, 2 d)."""
    parts = _parts(descriptors)
    return np.concatenate([np.float32(scale) * parts[:, 0], parts[:, 2]], axis=1)


def to_find(descriptors: np.ndarray) -> np.ndarray:
    """Select features to find new kinds from descriptors (m, 3 d): unit residuals and looks, float32 (m, 2 d)."""
    halves = _parts(descriptors)[:, :2]
    lengths = np.maximum(np.linalg.norm(halves, axis=2, keepdims=True), _TINY)
    return (halves / lengths).reshape(len(descriptors), -1)


def _parts(descriptors: np.ndarray) -> np.ndarray:
    """Split descriptors into residuals, looks and contrasts: (m, 3, d)."""
    return descriptors.reshape(len(descriptors), 3, -1)


def squared_lengths(rows: np.ndarray) -> np.ndarray:
    """Compute the squared lengths (n,) of rows (n, d)."""
    return np.asarray(np.square(rows).sum(axis=1))


def distances_between(rows: np.ndarray, others: np.ndarray, squares: np.ndarray | None = None) -> np.ndarray:
    """Compute Euclidean distances (n, m), float64, of rows (n, d) to others (m, d) of squared lengths `squares`."""
    of_others = squared_lengths(others) if squares is None else squares
    found = squared_lengths(rows)[:, None] + of_others - 2 * rows @ others.T
    return np.sqrt(np.maximum(found, 0, dtype=np.float64))


class KnownParts:
    """Grouping of known rejects by part, for distances to the nearest parts.

    `groups`: rejects with the same number show the same part; there are at least two parts.
    """

    def __init__(self, groups: Sequence[int]):
        numbers, self._part_of = np.unique(groups, return_inverse=True)
        self._order = np.argsort(self._part_of, kind="stable")
        self._starts = np.searchsorted(self._part_of[self._order], np.arange(len(numbers)))
        self._nearest = min(_NEAREST_PARTS, len(numbers) - 1)

    def to_nearest(self, distances: np.ndarray) -> np.ndarray:
        """Reduce distances (n, m) to all known rejects to the mean of the two nearest parts: float64 (n,)."""
        return self._mean_of_nearest(self._to_parts(distances))

    def to_others(self, distances: np.ndarray) -> np.ndarray:
        """Reduce distances (m, m) between known rejects like `to_nearest`, without each one's own part: float64 (m,).

        Images of one part are near each other whatever their kind, so that even an unseen kind would seem near.
        """
        to_parts = self._to_parts(distances)
        to_parts[np.arange(len(to_parts)), self._part_of] = np.inf
        return self._mean_of_nearest(to_parts)

    def _to_parts(self, distances: np.ndarray) -> np.ndarray:
        return np.minimum.reduceat(distances[:, self._order], self._starts, axis=1)

    def _mean_of_nearest(self, to_parts: np.ndarray) -> np.ndarray:
        nearest = np.partition(to_parts, self._nearest - 1, axis=1)[:, : self._nearest]
        return np.asarray(nearest.mean(axis=1))


def distances_to_others(descriptors: np.ndarray, scale: float, groups: Sequence[int]) -> list[float]:
    """Distances of known rejects to the nearest other parts; the distance of a new reject is ranked among them.

    `descriptors`: ndarray of shape (m, 3 d), float32.
    `scale`: factor of their residuals; see `residual_scale`.
    `groups`: rejects with the same number show the same part; there are at least two parts.
    """
    rows = to_know(descriptors, scale).astype(np.float64)
    return list(KnownParts(groups).to_others(distances_between(rows, rows)))


class KindFound(NamedTuple):
    """Kind of a reject: its name, or "unknown kind", and the p-value of the hypothesis that the kind is known."""

    name: str
    p_value: float


class KnownKinds:
    """Classifier of rejects by the kinds of a model.

    `examples` (ndarray of shape (m, n), float32): feature vectors of the example rejects.
    """

    def __init__(self, kinds: Kinds, examples: np.ndarray):
        self._kinds, self._examples = kinds, to_know(examples, kinds.residual_scale)
        self._squares, self._parts = squared_lengths(self._examples), KnownParts(kinds.groups)
        wide = self._examples.astype(np.float64)
        self._regression = KindRegression(distances_between(wide, wide), kinds.labels)
        order = np.argsort(kinds.distances, kind="stable")
        self._ranking = Ranking([kinds.distances[i] for i in order], [kinds.groups[i] for i in order])

    def kind_of(self, descriptor: np.ndarray) -> KindFound:
        """Find the kind of a reject.

        `descriptor` (ndarray of shape (n,), float32): see `edgead.heads.contract.Describer`.
        """
        known_by = to_know(descriptor[None], self._kinds.residual_scale)
        distances = distances_between(known_by, self._examples, self._squares)
        p_value = self._ranking.p_value(float(self._parts.to_nearest(distances)[0]))
        if p_value <= self._kinds.unknown_level:
            return KindFound(UNKNOWN_KIND, p_value)
        return KindFound(self._kinds.names[int(self._regression.scores(distances)[0].argmax())], p_value)


def is_stale(manifest: Manifest) -> bool:
    """Whether a model's kinds were made with another descriptor or memory bank, and so no longer fit its rejects."""
    kinds = manifest.kinds
    return kinds is not None and (kinds.descriptor, kinds.bank_sha256) != (DESCRIPTOR, bank_sha256(manifest))


def bank_sha256(manifest: Manifest) -> str:
    """Hash of the memory bank's file; empty for a model without one, or a draft."""
    return manifest.files.get(manifest.arrays.get(BANK, ""), "")


def stale_message(artifact: Artifact) -> str:
    """Message on stale kinds: the reason, and what to do."""
    kinds = artifact.manifest.kinds
    earlier = kinds is not None and kinds.descriptor != DESCRIPTOR
    why = "describes rejects otherwise" if earlier else "has learnt good parts"
    return (
        f"{artifact.path} {why} since its kinds of rejects were named, and would mistake them: name them again with "
        f"`edgead name {artifact.path} --examples FOLDER --replace`"
    )


def open_kinds(artifact: Artifact) -> KnownKinds | None:
    """Open the classifier of a model's kinds; None if it has none, or, with a warning, only stale ones.

    Raises ArtifactError: the file of the examples is damaged.
    """
    kinds = artifact.manifest.kinds
    if kinds is None:
        return None
    if is_stale(artifact.manifest):
        logger.warning("%s; until then no reject has a kind", stale_message(artifact))
        return None
    return KnownKinds(kinds, artifact.kinds_examples())
