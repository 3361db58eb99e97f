"""Source of heights from two cameras: `stereo:LEFT|RIGHT?baseline_mm=60&focal_px=1200`."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr, field_validator, model_validator
from typing_extensions import Self

from edgead.components.options import Section
from edgead.components.uri import split_stereo, without_credentials
from edgead.images.files import ImageError, natural_key
from edgead.process.log_rate import LogRate
from edgead.sources.contract import Counters, FrameCounter, Source, SourceError
from edgead.sources.live import LiveLimits
from edgead.sources.registry import register
from edgead.types import VALUES, Frame
from edgead_height.stereo import Rectified, Search, StereoCalibration, StereoHeights, read_calibration

logger = logging.getLogger(__name__)
logger.addFilter(LogRate(1, 60.0))

_NUMBER = re.compile(r"[0-9]+")


class StereoOptions(Section):
    """Two cameras side by side, any two sources: gives the left image with heights in mm."""

    baseline_mm: Annotated[
        float | None, Field(gt=0, le=1e6, description="Distance of two cameras with aligned rows, without calibration.")
    ] = None
    focal_px: Annotated[float | None, Field(gt=0, le=1e6, description="Their focal length in pixels.")] = None
    calibration: Annotated[
        Path | None, Field(description="YAML of OpenCV's stereoCalibrate, in mm: images are rectified by it.")
    ] = None
    min_disparity: Annotated[int, Field(ge=0, le=4096, description="Disparity of the farthest point, in pixels.")] = 0
    disparities: Annotated[
        int, Field(ge=16, le=1024, multiple_of=16, description="Pixels from there to the nearest point's; 16, 32, ...")
    ] = 128
    window: Annotated[int, Field(ge=1, le=21, description="Side of the matching window, in pixels; odd.")] = 5
    tolerance_ms: Annotated[
        float, Field(ge=0, le=60_000, description="Longest time between two images of a pair, for live cameras.")
    ] = 10.0
    _geometry: Rectified | StereoCalibration = PrivateAttr()

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("must be odd")
        return window

    @model_validator(mode="after")
    def _one_geometry(self) -> Self:
        if self.calibration is not None and self.baseline_mm is self.focal_px is None:
            try:
                self._geometry = read_calibration(self.calibration)
            except ImageError as error:
                raise ValueError(f"calibration {error}") from None
        elif self.calibration is None and self.baseline_mm is not None and self.focal_px is not None:
            self._geometry = Rectified(self.focal_px, self.baseline_mm)
        else:
            raise ValueError("give baseline_mm and focal_px of cameras whose rows fit, or a calibration alone")
        return self

    def heights(self) -> StereoHeights:
        """Make the matcher of image pairs."""
        return StereoHeights(self._geometry, Search(self.min_disparity, self.disparities, self.window))


class StereoSource:
    """Source of frames with heights from paired images; an image without a partner is dropped and counted.

    Live cameras are paired by the time when their images were in memory, recordings by their file names, videos by the
    order of their frames.

    `uri`: URI for display.
    `pair` ((Source, Source)): left and right source, both live or both not.
    Raises SourceError: one source is live and the other is not.
    """

    def __init__(self, uri: str, pair: tuple[Source, Source], options: StereoOptions, limits: LiveLimits):
        self.uri = uri
        self._pair = pair
        self.live = pair[0].live
        if pair[0].live != pair[1].live:
            raise SourceError(f"{uri}: one of the two is a live camera, the other is none: they give no pairs")
        self._heights = options.heights()
        self._tolerance_ms, self._patience_s = options.tolerance_ms, limits.read_timeout_s
        self._frames = FrameCounter(uri, late_after_ms=limits.late_after_ms, max_megapixels=limits.max_megapixels)
        self.unpaired = 0

    @property
    def counters(self) -> Counters:
        dropped = self._pair[0].counters.dropped + self.unpaired
        return Counters(self._frames.captured, dropped, self._frames.late)

    def __iter__(self) -> Iterator[Frame]:
        for left, right in self._pairs():
            try:
                image, mm = self._heights.of(left.image, right.image)
            except ImageError as error:
                raise SourceError(f"{self.uri}: frame {self._frames.captured}: {error}") from error
            older = left if left.captured_ns <= right.captured_ns else right
            yield self._frames.hand_over(
                replace(
                    self._frames.capture(image, left.name),
                    captured_ns=older.captured_ns,
                    captured_at=older.captured_at,
                    others={VALUES: mm},
                )
            )

    def close(self) -> None:
        for source in self._pair:
            source.close()

    def _pairs(self) -> Iterator[tuple[Frame, Frame]]:
        lefts, rights = map(iter, self._pair)
        left, right = next(lefts, None), next(rights, None)
        paired_s, closest_ms = time.monotonic(), float("inf")
        while left is not None and right is not None:
            apart_ms = self._apart(left, right)
            if abs(apart_ms) <= (self._tolerance_ms if self.live else 0):
                yield left, right
                paired_s, closest_ms = time.monotonic(), float("inf")
                left, right = next(lefts, None), next(rights, None)
                continue
            self._drop(left if apart_ms < 0 else right, apart_ms)
            closest_ms = min(closest_ms, abs(apart_ms))
            if self.live and time.monotonic() - paired_s > self._patience_s:
                raise SourceError(
                    f"{self.uri}: no pair for {self._patience_s:g} s: images came {closest_ms:.3g} ms apart and more, "
                    f"{self._tolerance_ms:g} are allowed; trigger both cameras at once, or raise tolerance_ms"
                )
            if apart_ms < 0:
                left = next(lefts, None)
            else:
                right = next(rights, None)
        rest, others = (left, lefts) if left is not None else (right, rights)
        while rest is not None and not self.live:
            self._drop(rest, 0)
            rest = next(others, None)

    def _apart(self, left: Frame, right: Frame) -> float:
        """Compare two frames: below 0 if the left frame is older; in ms for live cameras, by name for recordings."""
        if self.live:
            return (left.captured_ns - right.captured_ns) / 1e6
        if left.name == right.name:
            return 0
        keys = [_key(frame.name) for frame in (left, right)]
        return (keys[0] > keys[1]) - (keys[0] < keys[1])

    def _drop(self, frame: Frame, apart_ms: float) -> None:
        self.unpaired += 1
        of_one = f"{frame.name or f'frame {frame.number}'} of {frame.source}"
        why = f"{abs(apart_ms):.3g} ms from the other camera's" if self.live else "the other folder has none like it"
        logger.warning("%s: %s is dropped, %s; %d dropped so far", self.uri, of_one, why, self.unpaired)


def _key(name: str) -> tuple:
    """Key that pairs the files of two folders: the last number in a name, or else the name."""
    stem = Path(name).stem
    numbers = _NUMBER.findall(stem)
    return (0, int(numbers[-1])) if numbers else (1, *natural_key(stem))


def open_stereo(uri: str, options: StereoOptions, limits: LiveLimits) -> StereoSource:
    """Open two sources as one.

    Raises SourceError: a source cannot be opened, or an option is wrong.
    """
    from edgead.sources import is_on_demand, open_source  # imported here, as it opens this source

    left, right, _ = split_stereo(uri)
    shown = without_credentials(uri)
    if not (left and right):
        raise SourceError(f"{shown}: name two sources, such as stereo:LEFT|RIGHT?baseline_mm=60&focal_px=1200")
    if is_on_demand(left) or is_on_demand(right):
        raise SourceError(f"{shown}: images that are sent one by one make no pairs")
    each = {
        "open_timeout_s": limits.open_timeout_s,
        "read_timeout_s": limits.read_timeout_s,
        "stop": limits.stop,
        "max_megapixels": limits.max_megapixels,
    }
    first = open_source(left, **each)  # type: ignore[arg-type]  # by their names
    try:
        second = open_source(right, **each)  # type: ignore[arg-type]
    except SourceError:
        first.close()
        raise
    try:
        return StereoSource(shown, (first, second), options, limits)
    except SourceError:
        first.close()
        second.close()
        raise


register("stereo", StereoOptions, open_stereo, schemes={"stereo": "stereo:LEFT|RIGHT?baseline_mm=60&focal_px=1200"})
