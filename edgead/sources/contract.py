"""Interface of a source of frames, with its counts and errors."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

import numpy as np

from edgead.errors import EdgeadError
from edgead.images.files import MAX_MEGAPIXELS, ImageError, as_bgr, as_values, check_size, has_depth, is_pair
from edgead.images.pairs import colours_in, heights_in, shown_of
from edgead.types import COLOUR, VALUES, Frame


class SourceError(EdgeadError):
    """Source that cannot be opened, or that failed later; the message holds no credentials."""


class FrameSizeError(SourceError):
    """Frame with more pixels than allowed; later frames will not be smaller."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts of a source's frames so far.

    Attributes
    ----------
    captured : int
        Frames that the source took in.
    dropped : int
        Frames that a newer one replaced before anyone asked for them; only live sources drop frames.
    late : int or None
        Frames that were older than `late_after_ms` when they were handed over; None without a limit.
    unreadable : int
        Files that hold no image and were skipped; `captured` includes them.
    """

    captured: int = 0
    dropped: int = 0
    late: int | None = None
    unreadable: int = 0


class Source(Protocol):
    """Source: iterator of frames, which ends with the stream; a failure raises SourceError, and no frame is invented.

    `close` may be called from any thread and more than once; the iteration then ends.
    """

    uri: str  # without credentials
    live: bool  # frames come at the camera's pace, and are dropped if nobody takes them

    @property
    def counters(self) -> Counters: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...


def new_id(at: datetime) -> str:
    """Make a UUID of version 7 (RFC 9562), which sorts by time; times beyond its 48 bits are clamped."""
    milliseconds = min(max(int(at.timestamp() * 1000), 0), 2**48 - 1)
    number = milliseconds << 80 | 7 << 76 | secrets.randbits(76)
    return str(uuid.UUID(int=number & ~(3 << 62) | 2 << 62))


class FrameCounter:
    """Maker of a source's frames: gives numbers and time stamps, limits the size, and counts late frames."""

    def __init__(self, uri: str, *, late_after_ms: float | None = None, max_megapixels: float = MAX_MEGAPIXELS):
        self.uri = uri
        self.captured = 0
        self.late = None if late_after_ms is None else 0
        self._late_after_ms = late_after_ms
        self._max_megapixels = max_megapixels

    def check_size(self, height: int, width: int) -> None:
        """Raise FrameSizeError if frames of this size are too large; sizes of 0, for unknown, pass."""
        try:
            check_size((height, width), self._max_megapixels)
        except ImageError as error:
            raise FrameSizeError(f"{self.uri}: frame {self.captured}: {error}") from error

    def capture(self, image: np.ndarray, name: str = "", *, keep_depth: bool = False) -> Frame:
        """Make a Frame of an image that has just been captured.

        Parameters
        ----------
        image : ndarray
            Image that `as_bgr` takes.
        name : str
            Name of the image's file.
        keep_depth : bool
            Also accept values of 16 bits or floats, (H, W), which become the plane `VALUES` beside an 8-bit image, and
            pairs, see `edgead.images.pairs`, which become the planes `VALUES` and `COLOUR`.

        Raises
        ------
        SourceError
            The source delivered no image, or one that is too large; the message names the frame.
        """
        captured_ns = time.perf_counter_ns()
        captured_at = datetime.now(timezone.utc)
        others: dict[str, np.ndarray] = {}
        try:
            if keep_depth and has_depth(image):
                others = _planes_of(image)
                image = shown_of(image)
            image = as_bgr(image)
        except ImageError as error:
            raise SourceError(f"{self.uri}: frame {self.captured}: {error}") from error
        self.check_size(*image.shape[:2])
        id = new_id(captured_at)
        frame = Frame(image, self.captured, captured_ns, captured_at, self.uri, name, id, others=others)
        self.captured += 1
        return frame

    def hand_over(self, frame: Frame) -> Frame:
        """Return the frame, and count it as late if it is older than allowed."""
        if self.late is not None and self._late_after_ms is not None:
            age_ms = (time.perf_counter_ns() - frame.captured_ns) / 1e6
            self.late += age_ms > self._late_after_ms
        return frame


def _planes_of(image: np.ndarray) -> dict[str, np.ndarray]:
    """Split values or a pair into the planes that accompany the image for people."""
    if is_pair(image):
        return {VALUES: heights_in(image), COLOUR: colours_in(image)}
    return {VALUES: as_values(image)}
