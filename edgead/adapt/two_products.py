"""Detection of two products in one folder: some images resemble each other, but not the rest.

The mean features of the images are compared along their main directions. Good images of one product form one cluster,
even if light and batches differ; images of two products form two clusters with a gap between. Edgead's own; see
benchmarks/RESULTS.md for results on the panel of data sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead.files.atomic import write_whole
from edgead.images.files import load_image, write_image
from edgead.images.sheet import band_sheet

FEWEST = 3
"""Fewest images of a cluster; fewer are odd single images, which have their own warning."""

SMALLEST_SHARE = 0.08
_SHOWN = 3
_DIRECTIONS, _STARTS, _ROUNDS = 10, 3, 20
# Least gap between two clusters, divided by the sum of their deviations along the line between them. On seven sets,
# with 25 images or more, one product has at most 4, pairs of products have 4.3 to 77 (one of 63 mixtures less).
_WIDEST = 4.2


def smaller_heap(features: np.ndarray) -> list[int]:
    """Return the indices of the images in the smaller of two clusters; none if there is one cluster.

    `features` (ndarray of shape (n, d), float32): mean patch features of each image.
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


@dataclass(frozen=True, slots=True)
class TwoProducts:
    """Images of a folder that form two clusters.

    `names`, `sizes`: names and sizes of the images; sizes such as "480 x 480".
    `heap`: indices of the images in the smaller cluster.
    """

    paths: Sequence[Path]
    names: Sequence[str]
    sizes: Sequence[str]
    heap: Sequence[int]

    @property
    def warning(self) -> str:
        """Warning that names the first images of either cluster and says what to do."""
        heaps = self._heaps()
        here, there = ({self.sizes[number] for number in heap} for heap in heaps)
        apart = f" ({min(here)} instead of {min(there)} pixels)" if here.isdisjoint(there) else ""
        few, many = (", ".join(self.names[number] for number in heap[:_SHOWN]) for heap in heaps)
        return (
            f"{len(self.heap)} of {len(self.names)} images look like another product or grade than the rest{apart}, "
            f"{few} first; the rest begins with {many}: look at them; train products apart, each from a folder of its "
            "own: `edgead train FOLDER -o MODEL`"
        )

    def write_beside(self, model: Path) -> str:
        """Beside a model, draw some images of either cluster and list the smaller cluster; return the warning."""
        sheet = model.absolute().with_name(f"{model.name}-two-products.jpg")
        write_image(sheet, self.sheet())
        names = sheet.with_suffix(".txt")
        write_whole(names, "".join(f"{self.paths[number].absolute()}\n" for number in self.heap).encode())
        return f"{self.warning}. {sheet} shows them, {names.name} lists the {len(self.heap)}"

    def sheet(self) -> np.ndarray:
        """Draw the first images of either cluster: an image of shape (H, W, 3), uint8, BGR."""
        bands = [
            (f"{len(heap)} images", [(load_image(self.paths[number]), self.names[number]) for number in heap[:_SHOWN]])
            for heap in self._heaps()
        ]
        return band_sheet(("Two products?", "The first images of either cluster"), bands, _SHOWN, tile_px=460)

    def _heaps(self) -> tuple[Sequence[int], Sequence[int]]:
        return self.heap, sorted({*range(len(self.names))}.difference(self.heap))
