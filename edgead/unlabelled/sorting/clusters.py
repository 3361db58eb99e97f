"""Clustering of rejects into kinds: Ward's method with Lloyd's refinement, and a stable number of kinds.

Ward, "Hierarchical grouping to optimize an objective function", Journal of the American Statistical Association 1963;
Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 1982, started from Ward's result.
The number of kinds is chosen as the largest for which clusterings of two halves agree nearly as well as the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgead.errors import SettingsError
from edgead.metrics.partitions import adjusted_rand, jaccard_of_each

# At this number Ward's distances of all pairs take 200 MB.
MAX_REJECTS = 5000
MAX_KINDS = 12
# Least number of parts per kind, on average, that limits the number of kinds: smaller kinds are chance.
_MIN_PARTS = 3
_HALVINGS = 20
_NEARLY = 0.05
_MAX_TURNS = 30
# A kind that is found again from half of the parts with this overlap or more is clear.
_CLEAR = 0.8
# Of the highest merge: parts that are no further apart are equal, but for rounding.
_EQUAL = 1e-12


@dataclass(frozen=True, slots=True)
class Clusters:
    """Clustering of rejects into kinds.

    `labels` (ndarray of shape (n,), int): kind of each reject; 0 is the largest.
    `stability`: overlap of each kind with its best match when half of the parts are sorted alone, from 0 to 1; None if
        not computed.
    `agreement`: agreement of two halves for each tried number of kinds: 1 if equal, 0 as by chance.
    `distances` (ndarray of shape (n,), float): distance of each reject to the centre of its kind; only the order within
        a kind is meaningful.
    `notes`: remarks for the user on these kinds.
    """

    labels: np.ndarray
    stability: Sequence[float | None]
    agreement: dict[int, float]
    distances: np.ndarray
    notes: Sequence[str] = ()

    @property
    def count(self) -> int:
        return len(self.stability)

    @property
    def clear(self) -> list[bool | None]:
        """Whether each kind is found again from half of the parts; None if not computed."""
        return [None if one is None else one >= _CLEAR for one in self.stability]


def find_clusters(
    descriptors: np.ndarray, parts: Sequence[int], count: int | None = None, *, seed: int = 0
) -> Clusters:
    """Cluster rejects into kinds.

    Parts are sorted, each by the mean of its images, so that different lights of one part make no kind, and a part with
    many images counts once.

    `descriptors` (ndarray of shape (n, d), float32): see `edgead.heads.contract.Describer`.
    `parts`: number of the part of each reject.
    `count`: number of kinds; by default the largest of 2 to 12 whose agreement is within 0.05 of the best.
    `seed`: seed of the halves.
    Raises SettingsError: there are too many rejects to compare, or fewer than kinds.
    """
    if len(descriptors) > MAX_REJECTS:
        raise SettingsError(f"{len(descriptors)} rejects are more than the {MAX_REJECTS} that can be sorted at once")
    _, part_of = np.unique(parts, return_inverse=True)
    means = np.array([descriptors[part_of == part].mean(axis=0) for part in range(part_of.max() + 1)])
    if count is not None and not 1 <= count <= len(means):
        raise SettingsError(f"rejects of {len(means)} parts cannot be {count} kinds")
    numbers = [count] if count else list(range(2, min(MAX_KINDS, len(means) // _MIN_PARTS) + 1)) or [1]
    halvings = [_halve(means, np.random.default_rng([seed, turn])) for turn in range(_HALVINGS)]
    agreement = {k: float(np.median([halving.agreement(k) for halving in halvings])) for k in numbers}
    best = max(agreement.values())
    chosen = max(k for k, found in agreement.items() if found >= best - _NEARLY)
    kind_of_part = largest_first(_settled(means, _Tree(means).cut(chosen)), part_of)
    stability = np.mean([halving.stability(kind_of_part, chosen) for halving in halvings], axis=0)
    labels = kind_of_part[part_of]
    return Clusters(labels, stability.tolist(), agreement, _to_centres(descriptors, labels))


class _Tree:
    """Dendrogram of parts, which can be cut into any number of kinds."""

    def __init__(self, descriptors: np.ndarray):
        self._descriptors = descriptors.astype(np.float64)
        self._merges = sorted(_ward(self._descriptors), key=lambda merge: merge[0])

    def cut(self, count: int) -> np.ndarray:
        """Cut into `count` kinds, or fewer if there are fewer different parts; return labels from 0 on."""
        labels = np.arange(len(self._descriptors))
        equal = _EQUAL * self._merges[-1][0] if self._merges else 0.0
        for number, (height, one, other) in enumerate(self._merges):
            if number < len(labels) - count or height <= equal:
                labels[labels == labels[other]] = labels[one]
        return np.asarray(np.unique(labels, return_inverse=True)[1], np.intp)

    def nearest(self, count: int, descriptors: np.ndarray) -> np.ndarray:
        """Assign other parts to the nearest centre of `count` kinds."""
        return _nearest_centre(self._descriptors, self.cut(count), descriptors)


def _ward(rows: np.ndarray) -> list[tuple[float, int, int]]:
    """Merge rows by Ward's criterion, by nearest-neighbour chains; list its height and a row of each cluster per merge.

    Murtagh, "A survey of recent advances in hierarchical clustering algorithms", The Computer Journal 1983.
    """
    squares = np.square(rows).sum(axis=1)
    far = rows @ rows.T
    far *= -2
    far += squares
    far += squares[:, None]
    np.maximum(far, 0, out=far)
    np.fill_diagonal(far, np.inf)
    sizes, chain = np.ones(len(rows)), [0]
    merges: list[tuple[float, int, int]] = []
    while len(merges) < len(rows) - 1:
        near = int(far[chain[-1]].argmin())
        if len(chain) < 2 or far[chain[-1], near] < far[chain[-1], chain[-2]]:
            chain.append(near)
            continue
        other, one = chain.pop(), chain.pop()
        height = far[one, other]
        joined = (sizes + sizes[one]) * far[one] + (sizes + sizes[other]) * far[other] - sizes * height
        joined /= sizes + sizes[one] + sizes[other]
        sizes[one], sizes[other] = sizes[one] + sizes[other], 0
        far[one] = far[:, one] = joined
        far[other] = far[:, other] = np.inf
        merges.append((float(height), one, other))
        chain = chain or [one]
    return merges


@dataclass(frozen=True, slots=True)
class _Halving:
    """Random split of the parts into two halves, each clustered alone."""

    descriptors: np.ndarray
    first: _Tree
    second: _Tree

    def agreement(self, count: int) -> float:
        """Compute the agreement of both halves' labels for all parts."""
        return adjusted_rand(*(half.nearest(count, self.descriptors) for half in (self.first, self.second)))

    def stability(self, labels: np.ndarray, count: int) -> np.ndarray:
        """Compute the overlap of each kind with its best match in each half's clustering, averaged over both."""
        halves = (half.nearest(count, self.descriptors) for half in (self.first, self.second))
        return np.asarray(np.mean([jaccard_of_each(labels, half) for half in halves], axis=0))


def _halve(means: np.ndarray, rng: np.random.Generator) -> _Halving:
    if len(means) == 1:  # two halves need at least two parts
        return _Halving(means, _Tree(means), _Tree(means))
    order = rng.permutation(len(means))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    return _Halving(means, _Tree(means[first]), _Tree(means[second]))


def _nearest_centre(rows: np.ndarray, labels: np.ndarray, descriptors: np.ndarray) -> np.ndarray:
    """Assign descriptors to the nearest centre of the labelled rows."""
    centres = np.array([rows[labels == label].mean(axis=0, dtype=np.float64) for label in range(labels.max() + 1)])
    squares = np.square(centres).sum(axis=1) - 2 * descriptors.astype(np.float64) @ centres.T
    return np.asarray(squares.argmin(axis=1), np.intp)


def _settled(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Move rows to the nearest centre until no row moves (Lloyd), as Ward's merges are never undone."""
    for _ in range(_MAX_TURNS):
        nearer = _nearest_centre(rows, labels, rows)
        if np.array_equal(nearer, labels) or len(np.unique(nearer)) < labels.max() + 1:
            break
        labels = nearer
    return labels


def _to_centres(descriptors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    centres = np.array([descriptors[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    return np.asarray(np.linalg.norm(descriptors - centres[labels], axis=1))


def largest_first(labels: np.ndarray, part_of: np.ndarray) -> np.ndarray:
    """Renumber kinds by their number of images, the largest first; equal ones by first appearance.

    `labels` (ndarray of shape (parts,), int): labels from 0 on, each with at least one part.
    `part_of`: ndarray of shape (images,), int.
    """
    sizes = np.bincount(labels[part_of])
    first = [int(np.argmax(labels == label)) for label in range(len(sizes))]
    order = sorted(range(len(sizes)), key=lambda label: (-sizes[label], first[label]))
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    return np.asarray(rank[labels])
