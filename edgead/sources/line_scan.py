"""Joining of a line-scan camera's strips into frames: `lines=1024&overlap=128&mm_per_line=0.05` in a source's query.

It works with any source of images and any camera, without changes to their code.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from edgead.components.options import Section
from edgead.components.uri import split_options
from edgead.errors import tell_invalid
from edgead.images.files import MAX_MEGAPIXELS, ImageError, check_size, visible_values
from edgead.process.log_rate import LogRate
from edgead.sources.connection import Capture, LiveAddress, NoFrameYetError
from edgead.sources.contract import Counters, FrameSizeError, Source, SourceError, new_id
from edgead.types import VALUES, Frame, FrameLines

logger = logging.getLogger(__name__)
_losses = logging.getLogger(f"{__name__}.losses")  # a logger of its own, as a bad cable may lose many strips
_losses.addFilter(LogRate(10, 60.0))

Planes = Mapping[str, np.ndarray]
_IMAGE = "image"
# Time after which joining reports that no frame is complete yet, as a sign of life to the waiting reader.
_POLL_S = 0.25


class LineScan(Section):
    """Joining of strips into frames, for a line-scan camera whose images are a few lines high."""

    lines: Annotated[int, Field(ge=1, le=65_536, description="Rows of a joined frame; without it nothing is joined.")]
    overlap: Annotated[
        int, Field(ge=0, description="Rows that the next frame repeats, so that a defect is whole in one frame.")
    ] = 0
    mm_per_line: Annotated[
        float | None, Field(gt=0, le=1000, description="Travel from line to line: verdicts then have `first_mm`.")
    ] = None

    @model_validator(mode="after")
    def _goes_on(self) -> Self:
        if self.overlap >= self.lines:
            raise ValueError(
                f"an overlap of {self.overlap} lines leaves no new line in a frame of {self.lines}: it must be smaller"
            )
        return self


def split_line_scan(uri: str, shown: str) -> tuple[str, LineScan | None]:
    """Split the options of `LineScan` from a URI's query; None if it has none of them.

    Raises SourceError: an option is wrong, or `lines` is missing; the message names the URI as `shown`.
    """
    rest, query = split_options(uri)
    options = [option.partition("=") for option in query.split("&") if option]
    found = {name: value for name, _, value in options if name in LineScan.model_fields}
    if not found:
        return uri, None
    others = "&".join("".join(option) for option in options if option[0] not in found)
    try:
        return f"{rest}?{others}" if others else rest, LineScan.model_validate(found)
    except ValidationError as error:
        raise SourceError(f"{shown}: {tell_invalid(error.errors(), whole='options')}") from None


def warn_of_lost(name: str, lines: FrameLines | None) -> None:
    """Log the lines that are missing before a frame, if any."""
    if lines is not None and lines.lost_lines:
        _losses.warning(
            "%s: strips were lost: %d lines before line %d are in no frame", name, lines.lost_lines, lines.first_line
        )


class Joiner:
    """Assembler of frames from strips; copies every row once.

    `uri`: name of the source in errors and in the log.
    `max_megapixels`: largest size of a joined frame.
    """

    def __init__(self, uri: str, options: LineScan, max_megapixels: float = MAX_MEGAPIXELS):
        self._uri, self._options, self._max_megapixels = uri, options, max_megapixels
        self._frame: dict[str, np.ndarray] = {}
        self._filled = 0  # rows filled in the current frame
        self._first = 0  # running number of its first line
        self._end = 0  # running number after the last line of a complete frame
        self._height = 0  # height of the last strip
        self._strips = 0

    @property
    def unused(self) -> int:
        """Number of rows that are in no complete frame so far."""
        return self._first + self._filled - self._end

    def add(self, strip: Planes) -> list[tuple[Planes, FrameLines]]:
        """Add a strip; return the frames that it completes, in arrays of their own.

        `strip` (mapping of str to ndarray of shape (h, W) or (h, W, C)): planes of one height and width.
        Raises SourceError: the strip differs from earlier ones in width, type or number of planes, or frames would be
            too large.
        """
        lines = self._options.lines
        self._check(strip)
        self._height = height = len(next(iter(strip.values())))
        complete = []
        taken = 0
        while taken < height:
            count = min(height - taken, lines - self._filled)
            for name, plane in strip.items():
                self._frame[name][self._filled : self._filled + count] = plane[taken : taken + count]
            taken += count
            self._filled += count
            if self._filled == lines:
                complete.append(self._complete())
        return complete

    def lose(self, *, strips: int = 0, frames: int = 0) -> None:
        """Discard the partial frame and begin a new one after lost strips, each counted with the last strip's height.

        `strips`: number of strips that did not arrive.
        `frames`: number of complete frames that were not delivered; their lines count as lost.
        """
        self._first += self._filled + strips * self._height
        self._filled = 0
        self._end -= frames * (self._options.lines - self._options.overlap)

    def _complete(self) -> tuple[Planes, FrameLines]:
        options, complete = self._options, self._frame
        lines = FrameLines(self._first, max(0, self._first - self._end), options.mm_per_line)
        warn_of_lost(self._uri, lines)
        self._end = self._first + options.lines
        self._first = self._end - options.overlap
        self._filled = options.overlap
        self._frame = {name: np.empty_like(plane) for name, plane in complete.items()}
        for name, plane in complete.items():
            self._frame[name][: options.overlap] = plane[options.lines - options.overlap :]
        return complete, lines

    def _check(self, strip: Planes) -> None:
        found, before = _kinds(strip), _kinds(self._frame)
        if found == before:
            self._strips += 1
            return
        if before:
            raise SourceError(
                f"{self._uri}: strip {self._strips} has {_words(found)}, the ones before {_words(before)}: strips of "
                "one width and type make a frame"
            )
        lines = self._options.lines
        for (width, *_), _dtype in found.values():
            try:
                check_size((lines, width), self._max_megapixels)
            except ImageError as error:
                raise FrameSizeError(f"{self._uri}: frames of {lines} lines: {error}") from None
        self._frame = {name: np.empty((lines, *plane.shape[1:]), plane.dtype) for name, plane in strip.items()}
        self._strips += 1


def _kinds(planes: Planes) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    return {name: (plane.shape[1:], plane.dtype) for name, plane in planes.items()}


def _words(kinds: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> str:
    return " and ".join(
        f"{name} rows of {' x '.join(map(str, shape))} {dtype}" for name, (shape, dtype) in kinds.items()
    )


class LineScanCapture:
    """Capture that joins a camera's strips when it reads them: if a frame is dropped, the next loses no strip.

    `lines`: lines of the image that was read last; None before the first image.
    """

    def __init__(self, capture: Capture, joiner: Joiner, lines: int):
        self.lines: FrameLines | None = None
        self._capture, self._joiner, self._height = capture, joiner, lines
        self._ready: deque[tuple[Planes, FrameLines]] = deque()

    @property
    def lost_packets(self) -> int:
        return getattr(self._capture, "lost_packets", 0)

    @property
    def lost_frames(self) -> int:
        return getattr(self._capture, "lost_frames", 0)

    def get(self, propId: int, /) -> float:
        return self._height if propId == cv2.CAP_PROP_FRAME_HEIGHT else self._capture.get(propId)

    def read(self) -> tuple[bool, Any]:
        """Wait for the strip that completes a frame.

        Raises NoFrameYetError: more strips are needed, or the camera's own capture has no strip yet.
        Raises SourceError: errors of the camera's own capture, and of `Joiner.add`.
        """
        begin_s = time.monotonic()
        while not self._ready:
            before = self.lost_frames
            ok, strip = self._capture.read()
            if not ok:
                return False, None
            if not isinstance(strip, np.ndarray) or not strip.size:  # incomplete strip
                self._joiner.lose(strips=1 + self.lost_frames - before)
                self.lines = None
                return True, None
            if self.lost_frames > before:
                self._joiner.lose(strips=self.lost_frames - before)
            self._ready.extend(self._joiner.add({_IMAGE: strip}))
            if not self._ready and time.monotonic() - begin_s > _POLL_S:
                raise NoFrameYetError(may_last=True)
        planes, self.lines = self._ready.popleft()
        return True, planes[_IMAGE]

    def begin_again(self) -> None:
        """Discard the image that was read last, and the partial frame after it, because a strip was damaged."""
        self._joiner.lose(frames=1 + len(self._ready))
        self._ready.clear()

    def release(self) -> None:
        self._capture.release()


def joined_address(address: LiveAddress, options: LineScan, max_megapixels: float) -> LiveAddress:
    """Wrap the address of a camera so that its strips are joined."""

    def connect() -> Capture:
        joiner = Joiner(address.shown, options, max_megapixels)
        return LineScanCapture(address.connect(), joiner, options.lines)

    return LiveAddress(address.shown, connect)


class LineScanSource:
    """Source of frames joined from the strips of another source; a gap in its numbers discards the partial frame.

    A frame has the time and the name of the strip that completes it. At the end a partial frame is dropped, and its
    number of lines is logged.
    """

    def __init__(self, source: Source, options: LineScan, max_megapixels: float = MAX_MEGAPIXELS):
        self.uri, self.live = source.uri, source.live
        self._source = source
        self._joiner = Joiner(source.uri, options, max_megapixels)
        self._number = 0

    @property
    def counters(self) -> Counters:
        return replace(self._source.counters, captured=self._number)

    def __iter__(self) -> Iterator[Frame]:
        follows: tuple[int, int] | None = None
        for strip in self._source:
            if follows is not None and (strip.connection, strip.number) != follows:
                connection, number = follows
                self._joiner.lose(strips=strip.number - number if strip.connection == connection else 0)
            follows = strip.connection, strip.number + 1
            for planes, lines in self._joiner.add(_without_shown(strip)):
                self._number += lines.lost_lines > 0  # a gap for the discarded frame
                yield _frame(strip, planes, lines, self._number)
                self._number += 1
        if self._joiner.unused:
            logger.warning("%s: %d lines at the end fill no frame", self.uri, self._joiner.unused)

    def close(self) -> None:
        self._source.close()


def _without_shown(strip: Frame) -> Planes:
    """Select the planes to join; if there are values, without the image, which is rendered from the joined values."""
    return strip.others if strip.others.keys() == {VALUES} else strip.planes


def _frame(strip: Frame, planes: Planes, lines: FrameLines, number: int) -> Frame:
    others = {name: plane for name, plane in planes.items() if name != _IMAGE}
    image = planes[_IMAGE] if _IMAGE in planes else visible_values(planes[VALUES])
    return replace(strip, image=image, others=others, lines=lines, number=number, id=new_id(strip.captured_at))
