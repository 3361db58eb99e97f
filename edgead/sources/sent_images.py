"""Source of images that are sent in requests to the API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from queue import Empty, SimpleQueue

from edgead.components.options import Section
from edgead.images.files import decode_image
from edgead.sources.contract import Counters, FrameCounter, SourceError
from edgead.sources.live import LiveLimits
from edgead.sources.registry import register
from edgead.types import Frame, Part

# Time after which the source notices that it should stop.
_POLL_S = 0.1


class RequestOptions(Section):
    """Images sent to `POST /api/pipelines/NAME/judge`: they are judged like a camera's frames, one by one."""


class RequestSource:
    """Source of the images passed to `offer`; each image waits until the image before was taken."""

    live = False

    def __init__(self, uri: str, limits: LiveLimits):
        self.uri = uri
        if uri.partition(":")[2]:
            raise SourceError(f"{uri}: takes neither an address nor options: write request:")
        self._frames = FrameCounter(uri, late_after_ms=limits.late_after_ms, max_megapixels=limits.max_megapixels)
        self._max_megapixels = limits.max_megapixels
        self._stop = limits.stop
        self._lock = threading.Lock()
        self._offered: SimpleQueue[Frame | None] = SimpleQueue()

    @property
    def counters(self) -> Counters:
        return Counters(captured=self._frames.captured, late=self._frames.late)

    def offer(self, data: bytes, part: Part) -> Frame:
        """Decode the bytes of an image file and queue its frame; from any thread.

        Raises ImageError: the bytes are no image, or one that is too large.
        """
        image = decode_image(data, max_megapixels=self._max_megapixels, keep_depth=True)
        with self._lock:
            frame = replace(self._frames.capture(image, keep_depth=True), part=part)
            self._offered.put(frame)
        return frame

    def __iter__(self) -> Iterator[Frame]:
        while not (self._stop and self._stop.is_set()):
            try:
                frame = self._offered.get(timeout=_POLL_S)
            except Empty:
                continue
            if frame is None:
                return
            yield self._frames.hand_over(frame)

    def close(self) -> None:
        self._offered.put(None)


register(
    "request",
    RequestOptions,
    lambda uri, options, limits: RequestSource(uri, limits),
    schemes={"request": "request:"},
    live=True,
    on_demand=True,
)
