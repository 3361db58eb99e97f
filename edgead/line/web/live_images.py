"""Newest image as JPEG, encoded once for all viewers, and so seldom that the inspection is not slowed."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

_MAX_VIEWS = 16
_OFTENEST_S = 0.1
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class View:
    """View of a camera or pipeline: its kind and name, the image's width, and whether the heat map is drawn."""

    kind: str
    name: str
    width_px: int
    overlay: bool = False


@dataclass(frozen=True, slots=True)
class Jpeg:
    tag: str
    data: bytes
    made_s: float


class LiveImages:
    """Encoder that encodes one image at a time, and keeps each view's newest JPEG."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[View, Jpeg] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, view: View, tag: str, draw: Callable[[], np.ndarray]) -> Jpeg:
        """Return the JPEG of a view.

        Parameters
        ----------
        tag : str
            Name of the frame; with the same name, the kept image is returned.
        draw : callable
            Returns the image, (H, W, 3) uint8 BGR; not called if the kept image is new enough.
        """
        with self._lock:
            kept = self._kept.get(view)
            if kept and (kept.tag == tag or self._clock() - kept.made_s < _OFTENEST_S):
                return kept
            made = Jpeg(tag, jpeg_of(draw(), view.width_px), self._clock())
            self._kept[view] = made
            self._kept.move_to_end(view)
            if len(self._kept) > _MAX_VIEWS:
                self._kept.popitem(last=False)
            return made


def jpeg_of(image: np.ndarray, width_px: int) -> bytes:
    """Encode an image, uint8 BGR (H, W, 3), as JPEG of at most this width."""
    height, width = image.shape[:2]
    if width > width_px:
        size = width_px, max(1, round(height * width_px / width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
