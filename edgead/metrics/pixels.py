"""Pixel metrics of anomaly maps: AUROC, average precision and F1max, AUPRO, AUPIMO.

All are exact: no metric bins scores or samples thresholds. Only the scores of good pixels are sorted as a whole, once
and without their indices; all metrics are then sums over the pixels of defects.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edgead.metrics.ranking import best_f1, check_classes, check_finite, mean_precision

# Bounds of the shared false-positive rate in Bertoldo et al. 2024, section 3.
PIMO_BOUNDS = (1e-5, 1e-4)


@dataclass(frozen=True, slots=True)
class _Defect:
    """Defect pixels of one image by rising score, and the number of good pixels of all images above each."""

    scores: np.ndarray
    weights: np.ndarray  # 1 / (number of pixels in the region)
    regions: int
    above: np.ndarray
    at_or_above: np.ndarray


class Pixels:
    """Anomaly maps with their masks, prepared for all pixel metrics.

    `maps` (sequence of ndarray of shape (H, W), float32): anomaly maps, which may differ in size.
    `masks` (sequence of ndarray of shape (H, W), bool): true on defects.
    Raises ValueError if the shapes do not match, there are no defect pixels or only defect pixels, or a score is not
        finite.
    """

    def __init__(self, maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]):
        _check(maps, masks)
        self._maps, self._masks = maps, masks
        normal = np.concatenate([a[~m] for a, m in zip(maps, masks, strict=True)])
        normal.sort()
        self._normal = normal.size
        self._defects = {
            index: _defect(anomaly_map, mask, normal)
            for index, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True))
            if mask.any()
        }

    def auroc(self) -> float:
        """Compute the AUROC over all pixels of all images."""
        # Twice the wins as an integer: exact, and within 64 bits up to 10^9 pixels of each class.
        lost = sum(int(d.above.sum()) + int(d.at_or_above.sum()) for d in self._defects.values())
        pairs = 2 * self._normal * sum(d.scores.size for d in self._defects.values())
        return (pairs - lost) / pairs

    def average_precision(self) -> float:
        """Compute the average precision over all pixels, without interpolation."""
        _, hits, flagged = self._cuts()
        return mean_precision(hits, flagged)

    def f1_max(self) -> tuple[float, float]:
        """Find the best F1 over all pixels and thresholds, and the highest score from which pixels count for it."""
        return best_f1(*self._cuts())

    def aupro(self, limit: float = 0.3, images: Collection[int] | None = None) -> float:
        """Compute the area under the per-region overlap curve up to a false-positive rate, divided by it.

        Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.2: every connected region (8
        neighbours) has the same weight whatever its size, and the false-positive rate is that of the good pixels
        of all images.

        A region's pixel adds its weight to the overlap while the threshold passes its score: that is, linearly while
        the false-positive rate grows from the share of good pixels above the score to the share at or above it. So
        the area is a sum over the pixels of regions and the curve need not be built.

        `limit`: largest false-positive rate, above 0 and at most 1.
        `images`: images whose regions count; the false-positive rate is still that of all images.
        """
        if not 0 < limit <= 1:
            raise ValueError(f"the limit is a false-positive rate above 0 and at most 1, got {limit}")
        chosen = [d for index, d in self._defects.items() if images is None or index in images]
        if not chosen:
            raise ValueError("none of the images has a defect")
        area = sum(
            float(np.sum(d.weights * _area_of_rise(d.above / self._normal, d.at_or_above / self._normal, limit)))
            for d in chosen
        )
        return area / sum(d.regions for d in chosen) / limit

    def pro_curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute the curve whose area is `aupro`, at the score of every defect pixel.

        Returns ndarray of shape (k,): shares of good pixels at or above falling thresholds, and the mean overlap of the
            regions there.
        """
        weights = np.concatenate([d.weights for d in self._defects.values()])
        rates = np.concatenate([d.at_or_above for d in self._defects.values()]) / self._normal
        order = np.argsort(rates, kind="stable")
        rates, overlaps = rates[order], np.cumsum(weights[order]) / sum(d.regions for d in self._defects.values())
        last_of_tie = np.append(np.flatnonzero(np.diff(rates)), rates.size - 1)
        return rates[last_of_tie], overlaps[last_of_tie]

    def aupimo(self, bounds: tuple[float, float] = PIMO_BOUNDS) -> dict[int, float]:
        """Compute the area under the per-image overlap curve of every image with a defect.

        Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low Tolerance",
        BMVC 2024: the share of an image's defect pixels that are found, averaged over the logarithm of the
        false-positive rate between two bounds; that rate is the mean over the images without any defect.

        As with `aupro` the area is a sum over the defect's pixels. Between two thresholds the curve is linear in the
        logarithm, as with the trapezoids of the authors' code, which takes a sample of the thresholds; a rate of 0
        has no logarithm, and a pixel that ties with the highest good pixel counts from that pixel's rate on.

        `bounds`: smallest and largest false-positive rate, 0 < smallest < largest <= 1.
        Returns area, from 0 to 1, by number of the image.
        Raises ValueError if the bounds are wrong or no image is without a defect.
        """
        low, high = bounds
        if not 0 < low < high <= 1:
            raise ValueError(f"bounds are rates with 0 < smallest < largest <= 1, got {bounds}")
        top, rates = self._highest_normal(high)
        return {index: _log_area(d.scores, top, rates, bounds) for index, d in self._defects.items()}

    def _cuts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the distinct scores of defect pixels, falling, and the counts of defect and all pixels from each up.

        Thresholds in between only add good pixels, which raises neither the recall nor the best F1.
        """
        scores = np.concatenate([d.scores for d in self._defects.values()])
        order = np.argsort(scores)[::-1]
        scores = scores[order]
        last_of_tie = np.append(np.flatnonzero(np.diff(scores)), scores.size - 1)
        normal = np.concatenate([d.at_or_above for d in self._defects.values()])[order][last_of_tie]
        hits = last_of_tie + 1
        return scores[last_of_tie], hits, hits + normal

    def _highest_normal(self, rate: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the highest scores of defect-free images, rising, down to a false-positive rate, and their rates."""
        good = [a for a, m in zip(self._maps, self._masks, strict=True) if not m.any()]
        if not good:
            raise ValueError("AUPIMO needs images without any defect, found none")
        # Each pixel adds at least 1 / (images x largest size), so that this number reaches the rate.
        enough = min(int(rate * len(good) * max(a.size for a in good)) + 1, sum(a.size for a in good))
        scores = np.concatenate([a.ravel() for a in good])
        lowest = np.partition(scores, scores.size - enough)[scores.size - enough]
        kept = [a[a >= lowest] for a in good]
        weights = np.repeat([1 / (len(good) * a.size) for a in good], [len(k) for k in kept])
        scores = np.concatenate(kept)
        order = np.argsort(scores)
        return scores[order], np.cumsum(weights[order][::-1])[::-1]


def pixel_auroc(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float:
    """Compute the AUROC over all pixels of all images; parameters and errors are those of `Pixels`."""
    return Pixels(maps, masks).auroc()


def aupro(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], limit: float = 0.3) -> float:
    """Compute `Pixels.aupro`; parameters and errors are those of `Pixels`."""
    return Pixels(maps, masks).aupro(limit)


def aupimo(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], bounds: tuple[float, float] = PIMO_BOUNDS) -> float:
    """Compute the mean of `Pixels.aupimo` over the images with a defect; other parameters are those of `Pixels`."""
    return float(np.mean(list(Pixels(maps, masks).aupimo(bounds).values())))


def _check(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> None:
    if len(maps) != len(masks) or not len(maps):
        raise ValueError(f"every map needs a mask, got {len(maps)} maps and {len(masks)} masks")
    for index, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        if anomaly_map.ndim != 2 or anomaly_map.shape != mask.shape or mask.dtype != bool:
            raise ValueError(
                f"map {index} of shape {anomaly_map.shape} needs a bool mask of the same (H, W), "
                f"got {mask.dtype} of shape {mask.shape}"
            )
        check_finite(anomaly_map, f"map {index}")
    defects = sum(int(np.count_nonzero(mask)) for mask in masks)
    check_classes(defects, sum(mask.size for mask in masks), "masks")


def _defect(anomaly_map: np.ndarray, mask: np.ndarray, normal: np.ndarray) -> _Defect:
    found, labelled = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    scores, region = anomaly_map[mask], labelled[mask]
    order = np.argsort(scores)  # neighbouring searches stay in the cache: ten times faster
    scores, region = scores[order], region[order]
    return _Defect(
        scores,
        weights=1 / np.bincount(region, minlength=found)[region],
        regions=found - 1,
        above=normal.size - np.searchsorted(normal, scores, side="right"),
        at_or_above=normal.size - np.searchsorted(normal, scores, side="left"),
    )


def _area_of_rise(start: np.ndarray, stop: np.ndarray, limit: float) -> np.ndarray:
    """Integrate up to `limit` the ramp that is 0 until `start`, rises linearly to 1 at `stop` and stays there."""
    width = np.maximum(stop - start, np.finfo(np.float64).tiny)
    within = np.clip(limit - start, 0, stop - start)
    return within * within / (2 * width) + np.maximum(limit - stop, 0)


def _log_area(scores: np.ndarray, top: np.ndarray, rates: np.ndarray, bounds: tuple[float, float]) -> float:
    low, high = np.log(bounds)
    rates = np.append(rates, 0.0)  # rate of a score above all good pixels
    above = rates[np.searchsorted(top, scores, side="right")]
    stop = np.log(np.maximum(rates[np.searchsorted(top, scores, side="left")], np.finfo(np.float64).tiny))
    start = np.where(above > 0, np.log(np.where(above > 0, above, 1.0)), stop)
    return float(np.mean(_area_of_rise(start, stop, high) - _area_of_rise(start, stop, low)) / (high - low))
