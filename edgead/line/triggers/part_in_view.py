"""Trigger by the image itself: each part on a conveyor once, when it is in the middle of a zone."""

from __future__ import annotations

from collections import deque
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import Field, field_validator

from edgead.line.triggers.contract import TriggerOptions
from edgead.line.triggers.registry import register
from edgead.types import Frame

_WIDTH_PX = 96  # width that images are scaled to
_RELEASE = 0.5  # of the change that a part makes: below it the zone is empty again
_STILL = 0.2  # of that change: an image that differs less from the one before shows a part that stands still
_UNIFORM = 0.5  # of that change: a difference that varies less over the image is the light, not a part
_IN_THE_MIDDLE, _PAST_IT = 0.05, 0.1  # of half a zone


class PartInViewOptions(TriggerOptions):
    """Judge each part on a conveyor once: when it is in the middle of a zone of the image."""

    kind: Literal["part_in_view"]
    zone: Annotated[
        tuple[float, float, float, float], Field(description="x, y, width and height as shares of the image.")
    ] = (0.3, 0.0, 0.4, 1.0)
    changed_above: Annotated[
        float, Field(gt=0, le=255, description="Mean change of grey level from which the zone is not empty.")
    ] = 12.0

    @field_validator("zone")
    @classmethod
    def _within(cls, zone: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        x, y, width, height = zone
        most = 1 + 1e-9  # 0.7 and 0.3 may be a little more than 1
        if not (x >= 0 and y >= 0 and width > 0 and height > 0 and x + width <= most and y + height <= most):
            raise ValueError(f"must lie in the image, as shares of it from 0 to 1, found {list(zone)}")
        return zone


class PartInViewTrigger:
    """Trigger that accepts one frame for each part that crosses the zone.

    A part is the area where the image differs from the empty view. A frame is accepted when the centre of this area is
    in the middle of the zone, or has just been nearest to it; then no frame is accepted until the zone is empty. So the
    gap between two parts must be as long as the zone, and a part must be in the zone for at least two frames.
    """

    def __init__(self, section: PartInViewOptions):
        self._section = section
        self._view = _EmptyView(section.changed_above)
        self._nearest: float | None = None  # nearest distance of the part in view to the middle so far
        self._done = False  # the part in view was accepted

    def accepts(self, frame: Frame) -> bool:
        grey = _small(frame.image)
        x, y, width, height = self._zone(grey.shape)
        seen = self._view.change(grey)[y : y + height, x : x + width]
        limit = self._section.changed_above
        occupied = float(seen.mean()) > limit * (_RELEASE if self._nearest is not None else 1)
        self._view.learn(grey, occupied)
        if not occupied:
            self._nearest, self._done = None, False
            return False
        return not self._done and self._has_come(_distance(seen, limit))

    def close(self) -> None:
        pass

    def _has_come(self, distance: float) -> bool:
        """Return whether the part is in the middle of the zone, or has just been nearest to it."""
        nearest = min(distance, self._nearest if self._nearest is not None else distance)
        self._nearest = nearest
        self._done = distance < _IN_THE_MIDDLE or distance > nearest + _PAST_IT
        return self._done

    def _zone(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        x, y, width, height = self._section.zone
        left, top = round(x * shape[1]), round(y * shape[0])
        return left, top, max(1, round(width * shape[1])), max(1, round(height * shape[0]))


class _EmptyView:
    """Empty view, learnt as the median of recent images: parts pass, the conveyor stays, and the light may change.

    Images of a part that stands still are left out, however long it stands.
    """

    def __init__(self, limit: float):
        self._still, self._uniform = _STILL * limit, _UNIFORM * limit
        self._samples: deque[np.ndarray] = deque(maxlen=41)
        self._median: np.ndarray | None = None
        self._before: np.ndarray | None = None
        self._number = 0

    def change(self, grey: np.ndarray) -> np.ndarray:
        """Return the difference of an image from the empty view, in grey levels."""
        if self._median is None or self._median.shape != grey.shape:
            self._samples.clear()
            self._median = self._before = grey
            self._number = 0
        mean, deviation = cv2.meanStdDev(cv2.subtract(grey, self._median, dtype=cv2.CV_16S))
        if deviation[0, 0] < self._uniform:
            return cv2.absdiff(grey, cv2.convertScaleAbs(self._median, beta=float(mean[0, 0])))
        return cv2.absdiff(grey, self._median)

    def learn(self, grey: np.ndarray, occupied: bool) -> None:
        moves = self._before is None or float(cv2.absdiff(grey, self._before).mean()) > self._still
        self._before = grey
        if occupied and not moves:
            return
        # At first every image is learned, then every fourth: so the median reaches back farther than a part is long.
        self._number += 1
        if self._number <= len(self._samples) + 1 or self._number % 4 == 0:
            self._samples.append(grey)
            self._median = np.median(np.stack(self._samples), axis=0).astype(np.uint8)


def _small(image: np.ndarray) -> np.ndarray:
    height = max(1, round(image.shape[0] * _WIDTH_PX / image.shape[1]))
    return cv2.cvtColor(cv2.resize(image, (_WIDTH_PX, height), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)


def _distance(change: np.ndarray, limit: float) -> float:
    """Return the distance from the centre of the changed area to the middle of the zone, in halves of its sides."""
    moments = cv2.moments((change > limit).astype(np.uint8), binaryImage=True)
    if moments["m00"] == 0:
        return float("inf")
    x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    height, width = change.shape
    return float(np.hypot((2 * x + 1) / width - 1, (2 * y + 1) / height - 1))


register("part_in_view", PartInViewOptions, PartInViewTrigger)
