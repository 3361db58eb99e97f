"""Permutation test of Cramér and von Mises: whether two sets of scores come from the same distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def same_distribution_p_value(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    *,
    permutations: int = 1999,
    seed: int = 0,
) -> float:
    """Compute the p-value: the probability of samples that differ as much if both come from one distribution.

    Exact for any number of permutations, ties and sizes: under exchangeability the observed labelling is one of
    `permutations` + 1 equally likely ones (Phipson and Smyth 2010).

    Returns at least 1 / (`permutations` + 1).
    """
    is_first, last_of_tie, ties = _pool(first, second)
    observed = _statistic(is_first, last_of_tie, ties)
    rng = np.random.default_rng(seed)
    # Statistics that differ only by rounding count as equal.
    bar = observed * (1 - 1e-9)
    as_far = sum(_statistic(rng.permutation(is_first), last_of_tie, ties) >= bar for _ in range(permutations))
    return (1 + as_far) / (1 + permutations)


def _pool(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> tuple[np.ndarray, ...]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not a.size or not b.size:
        raise ValueError(f"both samples need a score, got {a.size} and {b.size}")
    pooled = np.concatenate([a, b])
    order = np.argsort(pooled, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(pooled[order])), pooled.size - 1)
    return (order < a.size), last_of_tie, np.diff(last_of_tie, prepend=-1)


def _statistic(is_first: np.ndarray, last_of_tie: np.ndarray, ties: np.ndarray) -> float:
    """Compute T of two samples (Anderson, Annals of Mathematical Statistics 1962)."""
    seen = np.cumsum(is_first)[last_of_tie]
    n, total = int(np.count_nonzero(is_first)), is_first.size
    m = total - n
    gap = seen / n - (last_of_tie + 1 - seen) / m
    return float(n * m / total**2 * np.sum(ties * gap * gap))
