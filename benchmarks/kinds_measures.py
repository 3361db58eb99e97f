"""What is measured of kinds of defects: sorting without labels, naming from few, kinds never seen, p-values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, f1_score, normalized_mutual_info_score

from edgead import metrics
from edgead.artifact.kinds import DESCRIPTOR, Kinds
from edgead.detector.known_kinds import KnownKinds, distances_to_others, residual_scale
from edgead.metrics.partitions import contingency
from edgead.types import UNKNOWN_KIND
from edgead.unlabelled.sorting.clusters import find_clusters
from edgead.unlabelled.sorting.describe import ScoredImage
from edgead.unlabelled.sorting.sort import rows_of

DRAWS = 20
NAMED = (3, 5, 10, 20)
LEVELS = (0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class Described:
    """Images that a model has judged and described.

    Attributes
    ----------
    judged : list of ScoredImage
    kinds : ndarray of int
        The true ones.
    parts : ndarray of int
        Which images show one part, from what is known of the set.
    looks : ndarray of int
        The same as `edgead sort` finds it, from the images alone.
    """

    judged: list[ScoredImage]
    kinds: np.ndarray
    parts: np.ndarray
    looks: np.ndarray

    @property
    def descriptors(self) -> np.ndarray:
        return np.array([one.descriptor for one in self.judged])

    def of(self, chosen: np.ndarray) -> Described:
        """Some of them, by a mask or by indices."""
        indices = np.arange(len(self.judged))[chosen]
        return Described(
            [self.judged[i] for i in indices], self.kinds[indices], self.parts[indices], self.looks[indices]
        )


def sort_quality(data: Described, *, seed: int = 0) -> dict[str, float]:
    """Sort with the true number of kinds; the number that is found without it stands beside.

    F1 is the micro average over images after the best assignment of sorted kinds to true ones, as AnomalyNCD reports
    it, which is the share of images that are sorted right; `macro_F1` weighs the kinds alike.
    """
    true = np.unique(data.kinds, return_inverse=True)[1]
    described = rows_of(data.judged)
    found = find_clusters(described, data.looks, int(true.max()) + 1, seed=seed).labels
    return {
        **agreement(true, found),
        "found_kinds": float(find_clusters(described, data.looks, seed=seed).count),
    }


def agreement(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """How far sorted kinds are the true ones, both numbered from 0; see `sort_quality`."""
    rows, columns = linear_sum_assignment(-contingency(found, true))
    assigned = dict(zip(rows, columns, strict=False))
    named = np.array([assigned.get(label, -1) for label in found])
    return {
        "NMI": float(normalized_mutual_info_score(true, found)),
        "ARI": float(adjusted_rand_score(true, found)),
        "F1": float(f1_score(true, named, average="micro")),
        "macro_F1": float(f1_score(true, named, average="macro", labels=np.unique(true))),
    }


def named_accuracy(data: Described, named: int, *, draws: int = DRAWS) -> float:
    """Share of rejects whose kind is right, after that many parts of each kind were named; the mean of draws.

    No part is on both sides. A kind with too few parts to leave a third of them to test gives fewer.
    """
    right = []
    for rng in draw_parts(draws):
        known = np.concatenate([_one_each(data, kind, named, rng) for kind in np.unique(data.kinds)])
        test = np.flatnonzero(~np.isin(data.parts, data.parts[known]))
        right.append(np.mean([name == str(data.kinds[i]) for i, (name, _) in judge_by(data, known, test, 0.0)]))
    return float(np.mean(right))


def open_set(data: Described, *, draws: int = 5) -> dict[str, float]:
    """One kind after the other is unknown, half of the parts of the others are known: are its rejects farther?

    `AUROC` is of the p-value, unknown against known, the mean over kinds and draws. `below_0.05` and so on: the share
    of rejects of known kinds, of parts not known, whose p-value is at most that; valid is no more than that.
    """
    found: dict[str, list[float]] = {"AUROC": [], "unknown_called": [], **{f"below_{level}": [] for level in LEVELS}}
    for unknown in np.unique(data.kinds):
        for rng in draw_parts(draws):
            parts = rng.permutation(np.unique(data.parts))
            in_half = np.isin(data.parts, parts[: len(parts) // 2])
            known = np.flatnonzero(in_half & (data.kinds != unknown))
            test = np.flatnonzero(~in_half)
            p_values = np.array([p_value for _, (_, p_value) in judge_by(data, known, test, 0.05)])
            is_new = data.kinds[test] == unknown
            if is_new.all() or not is_new.any():
                continue
            found["AUROC"].append(metrics.auroc(is_new, -p_values))
            found["unknown_called"].append(float(np.mean(p_values[is_new] <= 0.05)))
            for level in LEVELS:
                found[f"below_{level}"].append(float(np.mean(p_values[~is_new] <= level)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def draw_parts(number: int) -> Iterator[np.random.Generator]:
    return (np.random.default_rng(seed) for seed, _ in zip(count(), range(number), strict=False))


def _one_each(data: Described, kind: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """An image of each of some parts of a kind, drawn at random."""
    members = rng.permutation(np.flatnonzero(data.kinds == kind))
    _, first = np.unique(data.parts[members], return_index=True)
    first = rng.permutation(first)
    return members[first[: min(most, max(1, len(first) * 2 // 3))]]


def judge_by(
    data: Described, known: np.ndarray, test: np.ndarray, level: float
) -> Iterator[tuple[int, tuple[str, float]]]:
    """The kind and the p-value of each test reject by the known ones."""
    examples = data.of(known)
    scale = residual_scale(examples.descriptors)
    names = [str(kind) for kind in np.unique(examples.kinds)]
    assert UNKNOWN_KIND not in names
    kinds = Kinds(
        names=names,
        labels=[names.index(str(kind)) for kind in examples.kinds],
        groups=examples.parts.tolist(),
        distances=distances_to_others(examples.descriptors, scale, examples.parts.tolist()),
        descriptor=DESCRIPTOR,
        residual_scale=scale,
        bank_sha256="",
        unknown_level=level,
    )
    opened = KnownKinds(kinds, examples.descriptors)
    return ((int(i), opened.kind_of(data.judged[i].descriptor)) for i in test)
