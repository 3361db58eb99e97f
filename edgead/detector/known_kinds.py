"""Kind of a reject: the known one that it is most like, unless all are too far from it."""

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

# Of the median distance of examples. Ours, as the ridge: chosen on one split of the magnetic tiles, bottles and boards.
_WIDTH = 0.7
_RIDGE = 0.3
_TINY = float(np.finfo(np.float32).tiny)
# One example may be odd: a part that is near two others is known. Ours, chosen on one split of the magnetic tiles.
_NEAREST_PARTS = 2


class KindRegression:
    """Learns from examples, and gives each kind a score.

    Parameters
    ----------
    distances : ndarray of shape (m, m), float64
        Of the examples to each other.
    labels : sequence of int of length m
        Their kinds, from 0 on.
    """

    def __init__(self, distances: np.ndarray, labels: Sequence[int]):
        self._width = _WIDTH * float(np.median(distances)) or 1.0
        targets = 2 * np.eye(max(labels) + 1)[list(labels)] - 1
        self._mean = targets.mean(axis=0)
        kernel = self._kernel(distances)
        kernel[np.diag_indices(len(kernel))] += _RIDGE
        self._weights = np.linalg.solve(kernel, targets - self._mean)

    def scores(self, distances: np.ndarray) -> np.ndarray:
        """Score of each kind, of distances (n, m) to the examples: float64 (n, kinds)."""
        return np.asarray(self._kernel(distances) @ self._weights + self._mean)

    def _kernel(self, distances: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * np.square(distances / self._width))


def residual_scale(descriptors: np.ndarray) -> float:
    """By what the residuals of descriptors (m, 3 d) are multiplied, so that the median of their lengths is 1."""
    residuals = _parts(descriptors)[:, 0]
    median = float(np.median(np.linalg.norm(residuals.astype(np.float64), axis=1)))
    return 1.0 if median < _TINY else 1 / median


def to_know(descriptors: np.ndarray, scale: float) -> np.ndarray:
    """What kinds are known again by, of descriptors (m, 3 d): scaled residuals and contrasts, float32 (m, 2 d)."""
    parts = _parts(descriptors)
    return np.concatenate([np.float32(scale) * parts[:, 0], parts[:, 2]], axis=1)


def to_find(descriptors: np.ndarray) -> np.ndarray:
    """What kinds are found by, of descriptors (m, 3 d): residuals and looks, each of length 1, float32 (m, 2 d)."""
    halves = _parts(descriptors)[:, :2]
    lengths = np.maximum(np.linalg.norm(halves, axis=2, keepdims=True), _TINY)
    return (halves / lengths).reshape(len(descriptors), -1)


def _parts(descriptors: np.ndarray) -> np.ndarray:
    """Residuals, looks and contrasts: (m, 3, d)."""
    return descriptors.reshape(len(descriptors), 3, -1)


def squared_lengths(rows: np.ndarray) -> np.ndarray:
    """Squared lengths of rows (n, d): (n,)."""
    return np.asarray(np.square(rows).sum(axis=1))


def distances_between(rows: np.ndarray, others: np.ndarray, squares: np.ndarray | None = None) -> np.ndarray:
    """Euclidean distances of rows (n, d) to others (m, d), whose squared lengths may be known: float64 (n, m)."""
    of_others = squared_lengths(others) if squares is None else squares
    found = squared_lengths(rows)[:, None] + of_others - 2 * rows @ others.T
    return np.sqrt(np.maximum(found, 0, dtype=np.float64))


class KnownParts:
    """The parts that known rejects show, prepared for questions of how far they are.

    Parameters
    ----------
    groups : sequence of int of length m
        Rejects of one number show the same part; there are two parts at least.
    """

    def __init__(self, groups: Sequence[int]):
        numbers, self._part_of = np.unique(groups, return_inverse=True)
        self._order = np.argsort(self._part_of, kind="stable")
        self._starts = np.searchsorted(self._part_of[self._order], np.arange(len(numbers)))
        self._nearest = min(_NEAREST_PARTS, len(numbers) - 1)

    def to_nearest(self, distances: np.ndarray) -> np.ndarray:
        """Mean distance to the two nearest parts, of distances (n, m) to all known rejects: float64 (n,)."""
        return self._mean_of_nearest(self._to_parts(distances))

    def to_others(self, distances: np.ndarray) -> np.ndarray:
        """The same of the known rejects to other parts than their own, of distances (m, m): float64 (m,).

        Images of one part are near each other whatever their kind: among them a kind never seen would seem near.
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
    """How far known rejects are from the nearest other parts, which new ones are ranked among.

    Parameters
    ----------
    descriptors : ndarray of shape (m, 3 d), float32
    scale : float
        Of their residuals.
    groups : sequence of int of length m
        Rejects of one number show the same part; there are two parts at least.
    """
    rows = to_know(descriptors, scale).astype(np.float64)
    return list(KnownParts(groups).to_others(distances_between(rows, rows)))


class KindFound(NamedTuple):
    """The kind of a reject: its name, or "unknown kind", and the p-value of "a kind seen before"."""

    name: str
    p_value: float


class KnownKinds:
    """The kinds of a model, ready to name rejects.

    Parameters
    ----------
    kinds : Kinds
    examples : ndarray of shape (m, n), float32
        What describes the rejects that the kinds were learnt from.
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

        Parameters
        ----------
        descriptor : ndarray of shape (n,), float32
            See `edgead.heads.contract.Describer`.
        """
        known_by = to_know(descriptor[None], self._kinds.residual_scale)
        distances = distances_between(known_by, self._examples, self._squares)
        p_value = self._ranking.p_value(float(self._parts.to_nearest(distances)[0]))
        if p_value <= self._kinds.unknown_level:
            return KindFound(UNKNOWN_KIND, p_value)
        return KindFound(self._kinds.names[int(self._regression.scores(distances)[0].argmax())], p_value)


def is_stale(manifest: Manifest) -> bool:
    """Were its kinds described in another way, or with another memory bank, so that they say nothing of its rejects?"""
    kinds = manifest.kinds
    return kinds is not None and (kinds.descriptor, kinds.bank_sha256) != (DESCRIPTOR, bank_sha256(manifest))


def bank_sha256(manifest: Manifest) -> str:
    """Hash of the file of the memory bank; empty for a model without one, or whose files have not been hashed."""
    return manifest.files.get(manifest.arrays.get(BANK, ""), "")


def stale_message(artifact: Artifact) -> str:
    """What is wrong with stale kinds, and what to do."""
    kinds = artifact.manifest.kinds
    earlier = kinds is not None and kinds.descriptor != DESCRIPTOR
    why = "describes rejects otherwise" if earlier else "has learnt good parts"
    return (
        f"{artifact.path} {why} since its kinds of rejects were named, and would mistake them: name them again with "
        f"`edgead name {artifact.path} --examples FOLDER --replace`"
    )


def open_kinds(artifact: Artifact) -> KnownKinds | None:
    """Open the kinds of a model; None where it has none, or, with a warning, stale ones.

    Raises
    ------
    ArtifactError
        What describes them is damaged.
    """
    kinds = artifact.manifest.kinds
    if kinds is None:
        return None
    if is_stale(artifact.manifest):
        logger.warning("%s; until then no reject has a kind", stale_message(artifact))
        return None
    return KnownKinds(kinds, artifact.kinds_examples())
