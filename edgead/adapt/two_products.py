"""Detection of two products in one folder: some images resemble each other, but none of the rest.

The mean features of the images are compared along their main directions. Good images of one product form one cluster,
even if light and batches differ; those of two products form two clusters with a gap between. Ours; see
benchmarks/RESULTS.md for results on the panel of data sets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST = 3
"""Fewest images of a cluster; fewer are odd single images, which have their own warning."""

SMALLEST_SHARE = 0.08
_DIRECTIONS, _STARTS, _ROUNDS = 10, 3, 20
# Least gap between two clusters, divided by the sum of their deviations along the line between them. On seven sets,
# with 25 images or more, one product has at most 4, pairs of products have 4.3 to 77 (one of 63 mixtures less).
_WIDEST = 4.2


def smaller_heap(features: np.ndarray) -> list[int]:
    """Return the indices of the images in the smaller of two clusters; none if there is one cluster.

    Parameters
    ----------
    features : ndarray of shape (n, d), float32
        Mean patch features of each image.
    """
    count = len(features)
    least = max(FEWEST, int(np.ceil(SMALLEST_SHARE * count)))
    if count < 2 * least:
        return []
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    axes = np.linalg.svd(scaled, full_matrices=False)[2][: min(_DIRECTIONS, count // 3 + 1)]
    points = scaled @ axes.T
    found = max(
        (_split(points, start, least) for start in range(min(_STARTS, points.shape[1]))), key=lambda one: one[0]
    )
    gap, first = found
    if gap < _WIDEST:
        return []
    return np.flatnonzero(first if 2 * first.sum() <= count else ~first).tolist()


def _split(points: np.ndarray, axis: int, least: int) -> tuple[float, np.ndarray]:
    """Split points by 2-means from the widest gap along an axis; return the gap and a mask of the first cluster."""
    order = np.sort(points[:, axis])
    gaps = np.diff(order)[least - 1 : len(order) - least]
    first = points[:, axis] > order[least - 1 + int(np.argmax(gaps))]
    for _ in range(_ROUNDS):
        if min(first.sum(), (~first).sum()) < least:
            return 0.0, first
        centres = points[first].mean(axis=0), points[~first].mean(axis=0)
        nearer = np.square(points - centres[0]).sum(axis=1) < np.square(points - centres[1]).sum(axis=1)
        if (nearer == first).all():
            break
        first = nearer
    if min(first.sum(), (~first).sum()) < least:
        return 0.0, first
    line = points @ (points[first].mean(axis=0) - points[~first].mean(axis=0))
    spread = line[first].std() + line[~first].std()
    return float((line[first].min() - line[~first].max()) / max(spread, 1e-12)), first


def warning_of(names: Sequence[str], heap: Sequence[int], sizes: Sequence[str]) -> str:
    """Format the warning that names the images of the smaller cluster and says what to do.

    Parameters
    ----------
    names, sizes : sequence of str
        Names and sizes of all images; sizes such as "480 x 480".
    heap : sequence of int
        Indices of the images in the smaller cluster.
    """
    inside = set(heap)
    usual = [{size for number, size in enumerate(sizes) if (number in inside) == there} for there in (True, False)]
    apart = f" ({min(usual[0])} instead of {min(usual[1])} pixels)" if usual[0].isdisjoint(usual[1]) else ""
    shown = ", ".join(names[number] for number in heap[:3])
    return (
        f"{len(heap)} of {len(names)} images look like another product or grade than the rest{apart}, {shown} first: "
        "look at them; train products apart, each from a folder of its own: `edgead train FOLDER -o MODEL`"
    )
