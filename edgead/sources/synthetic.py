"""The built-in production line as a source: `synthetic:?seed=1&count=100&defect_rate=0.1&rate=10&repeat=1`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np

from edgead.sources.contract import Counters, FrameCounter, SourceError
from edgead.types import Frame
from edgead.uri import parse_options


class SyntheticSource:
    """Parts of the built-in line; the same seed gives the same parts.

    They come as fast as they are asked for, or with `rate` so many a second. With `repeat=1` the belt goes round: its
    parts are made once, kept in memory, and come again and again. With `batch=50` every 50 parts are a batch of its own
    light, mould and set-up of the camera.
    """

    def __init__(self, uri: str, *, late_after_ms: float | None = None):
        self.uri = uri
        path, _, query = uri.partition(":")[2].partition("?")
        if path:
            raise SourceError(f"{uri}: {path!r} is no part of the line; options follow a ?, as in synthetic:?count=5")
        known = {
            "seed": _natural,
            "count": _natural,
            "defect_rate": _fraction,
            "batch": _whole,
            "rate": _positive,
            "repeat": _switch,
        }
        try:
            options = parse_options(uri, query, known)
        except ValueError as error:
            raise SourceError(str(error)) from None
        self._rate: float | None = options.pop("rate", None)
        self.live = self._rate is not None  # a belt with a rate waits for nobody
        self._repeat: bool = options.pop("repeat", False)
        self._parts_per_batch: int | None = options.pop("batch", None)
        self._options = {"seed": 1, "count": 100, "defect_rate": 0.1} | options
        self._frames = FrameCounter(uri, late_after_ms=late_after_ms)
        self._closed = threading.Event()

    @property
    def counters(self) -> Counters:
        return Counters(captured=self._frames.captured, late=self._frames.late)

    def __iter__(self) -> Iterator[Frame]:
        due_s = time.monotonic()
        for image in self._parts():
            if self._rate is not None:
                self._closed.wait(due_s - time.monotonic())
                # A belt that was held up goes on at its pace, it does not catch up.
                due_s = max(due_s, time.monotonic() - 1 / self._rate) + 1 / self._rate
            if self._closed.is_set():
                return
            yield self._frames.hand_over(self._frames.capture(image))

    def close(self) -> None:
        self._closed.set()

    def _parts(self) -> Iterator[np.ndarray]:
        # Only those who ask for the line pay for its import.
        from edgead.synthetic.line import belt
        from edgead.synthetic.transmission import transmit

        made = []
        for image, _mask, _defect in belt(**self._options, parts_per_batch=self._parts_per_batch):
            image = transmit(image)
            if self._repeat:
                made.append(image)
            yield image
        while made:
            yield from (image.copy() for image in made)  # a frame is its taker's own


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("must be 0 or more")
    return number


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("must be 1 or more")
    return number


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError("must lie between 0 and 1")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number <= 1000:
        raise ValueError("must be above 0, and at most 1000")
    return number


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return text == "1"
