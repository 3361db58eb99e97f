"""Main-element binarisation: finds a map's regions, at thresholds over which their number stays constant longest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np

STEP = 4
"""Grey levels between two thresholds."""
SHORTEST = 4
"""Least number of thresholds in a row with the same number of regions."""
EROSION = np.ones((6, 6), np.uint8)


@dataclass(frozen=True, slots=True)
class SearchRange:
    """Range of grey levels in which thresholds are searched, for a set of anomaly maps.

    `low`, `high`: the lowest and the highest of the maxima of all maps.
    """

    low: int
    high: int

    def stretch(self, anomaly_map: np.ndarray) -> np.ndarray:
        """Scale a map, uint8 (h, w), to float64 with `low` to `high` as 0 to 255; all 0 if `low` equals `high`."""
        if self.low == self.high:
            return np.zeros(anomaly_map.shape)
        grey = anomaly_map.astype(np.float64)
        return np.where(grey < self.low, 0.0, (grey - self.low) / (self.high - self.low) * 255)


def to_grey(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Convert anomaly maps (h, w) of a set from float to uint8, with the set's least value as 0, the largest as 255."""
    low, high = min(float(x.min()) for x in maps), max(float(x.max()) for x in maps)
    scale = 255 / (high - low) if high > low else 0.0
    return [np.rint((x - low) * scale).astype(np.uint8) for x in maps]


def search_range(maps: Sequence[np.ndarray]) -> SearchRange:
    """Determine the search range of a set of maps, uint8 (h, w) each."""
    maxima = [int(x.max()) for x in maps]
    return SearchRange(min(maxima), max(maxima))


def main_elements(anomaly_map: np.ndarray, found_in: SearchRange) -> tuple[np.ndarray, int]:
    """Find the anomalous regions of one map (section 3.2).

    `anomaly_map`: ndarray of shape (h, w), uint8.
    `found_in`: search range of the set of maps.
    Returns mask, ndarray of shape (h, w), uint8: 255 in a region, 0 elsewhere.
    And the number of regions that stays constant over most thresholds; the mask may have another number.
    """
    stretched = found_in.stretch(anomaly_map)
    counts = [_regions(_binarise(stretched, level)) for level in range(255, 0, -STEP)]
    threshold, count = _stable(counts, found_in)
    return _binarise(anomaly_map, threshold), count


def _stable(counts: Sequence[int], found_in: SearchRange) -> tuple[int, int]:
    """Find the longest run of equal numbers of regions: its threshold on the map, and the number; 255 and 0 if none."""
    ends = np.cumsum([len(list(run)) for _, run in groupby(counts)])
    starts = np.concatenate([[0], ends[:-1]])
    runs = [(int(e - s), counts[s], int(e - 1)) for s, e in zip(starts, ends, strict=True)]
    runs = [run for run in runs if run[1] and run[0] >= SHORTEST]
    if not runs:
        return 255, 0
    longest = max(length for length, _, _ in runs)
    # Among numbers with equally long runs the one that occurred first; among its runs, the last.
    candidates = {count for length, count, _ in runs if length == longest}
    count = next(count for _, count, _ in runs if count in candidates)
    last = [end for length, number, end in runs if (length, number) == (longest, count)][-1]
    level = (255 - STEP * last) * (found_in.high - found_in.low) / 255 + found_in.low
    return int(level), count


def _binarise(anomaly_map: np.ndarray, threshold: int) -> np.ndarray:
    return cv2.erode(np.where(anomaly_map > threshold, 255, 0).astype(np.uint8), EROSION)


def _regions(mask: np.ndarray) -> int:
    return cv2.connectedComponents(mask, connectivity=8)[0] - 1
