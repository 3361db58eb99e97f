"""The built-in production line as a source: `synthetic:?seed=1&count=100&defect_rate=0.1&rate=10&repeat=1`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from edgead.components.options import Section
from edgead.sources.contract import Counters, FrameCounter, SourceError
from edgead.sources.live import LiveLimits
from edgead.sources.paced import Rate, Ticker
from edgead.sources.registry import register
from edgead.types import Frame


class SyntheticOptions(Section):
    """The built-in production line, with parts that have known defects; the same seed gives the same parts."""

    seed: Annotated[int, Field(ge=0, description="Seed: the same seed gives the same parts.")] = 1
    count: Annotated[int, Field(ge=0, description="Number of parts.")] = 100
    defect_rate: Annotated[float, Field(ge=0, le=1, description="Share of parts with a defect.")] = 0.1
    batch: Annotated[
        int | None, Field(ge=1, description="Parts in a batch; each batch has its own light, mould and set-up.")
    ] = None
    rate: Rate = None
    repeat: Annotated[bool, Field(description="Make the parts once, and repeat them without end.")] = False
    cycle: Annotated[
        float | None,
        Field(ge=4, le=5000, description="Show a machine with a repeated motion instead: frames per cycle."),
    ] = None
    size: Annotated[int, Field(ge=32, le=1024, description="Height and width of the machine's images, px.")] = 96
    fault: Annotated[
        Literal["stopped", "doubled", "reversed", "foreign"] | None, Field(description="Fault of the machine.")
    ] = None
    fault_at: Annotated[int, Field(ge=0, description="First frame of the fault.")] = 0
    fault_frames: Annotated[int, Field(ge=1, description="Duration of the fault in frames.")] = 1_000_000

    @model_validator(mode="after")
    def _of_the_machine(self) -> Self:
        if self.fault and self.cycle is None:
            raise ValueError("a fault is of the machine: give it a cycle, such as cycle=48")
        return self


class SyntheticSource:
    """Source of the built-in line's parts; the same seed gives the same parts.

    Parts come as fast as they are requested, or with `rate` so many per second. With `repeat=1` the conveyor is a loop:
    its parts are made once, kept in memory, and repeated. With `batch=50` every 50 parts are a batch with its own
    light, mould and set-up of the camera. With `cycle=48` it is a machine with a repeated motion, of `count` frames, or
    without an end with `repeat=1`.
    """

    def __init__(self, uri: str, options: SyntheticOptions, *, late_after_ms: float | None = None):
        self.uri = uri
        path = uri.partition(":")[2].partition("?")[0]
        if path:
            raise SourceError(f"{uri}: {path!r} is no part of the line; options follow a ?, as in synthetic:?count=5")
        self._given = options
        self.live = options.rate is not None  # a conveyor with a rate does not wait
        self._frames = FrameCounter(uri, late_after_ms=late_after_ms)
        self._pace = None if options.rate is None else Ticker(options.rate)
        self._closed = False

    @property
    def counters(self) -> Counters:
        return Counters(captured=self._frames.captured, late=self._frames.late)

    def __iter__(self) -> Iterator[Frame]:
        for image in self._parts():
            if (self._pace is not None and not self._pace.wait()) or self._closed:
                return
            yield self._frames.hand_over(self._frames.capture(image))

    def close(self) -> None:
        self._closed = True
        if self._pace is not None:
            self._pace.end()

    def _parts(self) -> Iterator[np.ndarray]:
        given = self._given
        if given.cycle is not None:
            from edgead.synthetic.machine import Happening, machine

            script = [Happening(given.fault, given.fault_at, given.fault_frames)] if given.fault else []
            frames = machine(given.seed, given.cycle, None if given.repeat else given.count, script, size=given.size)
            yield from (image for image, _fault in frames)
            return
        # Imported on use, as it takes time.
        from edgead.synthetic.line import conveyor, transmit

        made = []
        parts = conveyor(given.seed, given.count, given.defect_rate, parts_per_batch=given.batch)
        for image, _mask, _defect in parts:
            image = transmit(image)
            if given.repeat:
                made.append(image)
            yield image
        while made:
            yield from (image.copy() for image in made)  # copied, as consumers may change a frame


def _open(uri: str, options: SyntheticOptions, limits: LiveLimits) -> SyntheticSource:
    return SyntheticSource(uri, options, late_after_ms=limits.late_after_ms)


register("synthetic", SyntheticOptions, _open, schemes={"synthetic": "synthetic:?seed=1&count=100&defect_rate=0.1"})
