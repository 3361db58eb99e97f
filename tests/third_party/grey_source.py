"""A source: images of one grey level, such as `grey:?level=90&count=4`."""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from edgead.components.options import Section
from edgead.sources import Counters, FrameCounter, LiveLimits, register
from edgead.types import Frame


class GreyOptions(Section):
    """Images of one grey level."""

    level: Annotated[int, Field(ge=0, le=255, description="Of every pixel.")] = 128
    count: Annotated[int, Field(ge=1, description="Images.")] = 10


class GreySource:
    live = False

    def __init__(self, uri: str, options: GreyOptions, limits: LiveLimits):
        self.uri = uri
        self._options = options
        self._frames = FrameCounter(uri, late_after_ms=limits.late_after_ms)
        self._closed = False

    @property
    def counters(self) -> Counters:
        return Counters(captured=self._frames.captured, late=self._frames.late)

    def __iter__(self) -> Iterator[Frame]:
        while self._frames.captured < self._options.count and not self._closed:
            image = np.full((200, 200, 3), self._options.level, np.uint8)
            yield self._frames.hand_over(self._frames.capture(image))

    def close(self) -> None:
        self._closed = True


register("grey", GreyOptions, GreySource, schemes={"grey": "grey:?level=90"})
