"""The connection to a live camera: opened, read frame by frame, and every failure reported without credentials."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np

from edgead.process.quiet_libraries import quiet_opencv
from edgead.sources.contract import FrameCounter, FrameSizeError, SourceError
from edgead.types import Frame, FrameLines


class Capture(Protocol):
    """What is used of `cv2.VideoCapture`."""

    def get(self, propId: int, /) -> float: ...

    def read(self) -> tuple[bool, Any]: ...

    def release(self) -> None: ...


Connect = Callable[[], Capture]
"""Gives an opened capture or raises SourceError."""


@dataclass(frozen=True, slots=True)
class LiveAddress:
    """Where a live camera is: what may be shown of its URI, and how to connect to it."""

    shown: str
    connect: Connect


class CorruptFrameError(SourceError):
    """What the camera gave is no image; the next one may be."""


class NoFrameYetError(SourceError):
    """None has come so far; where the camera waits for a trigger or gave a part of one, that may last."""

    def __init__(self, *, may_last: bool):
        super().__init__("no frame has come so far")
        self.may_last = may_last


@dataclass(frozen=True, slots=True)
class Lost:
    """What a camera knows to have sent in vain: packets, and whole frames."""

    packets: int = 0
    frames: int = 0


class Connection:
    """An open camera. Opening and reading may take as long as the camera likes, so call from where that is no harm.

    Raises
    ------
    SourceError
        The camera cannot be opened.
    """

    def __init__(self, frames: FrameCounter, connect: Connect, read_timeout_s: float):
        self._frames = frames
        self._read_timeout_s = read_timeout_s
        try:
            with quiet_opencv():
                self._capture = connect()
        except cv2.error as error:
            fault = self._opencv_failed("opening", error)
        else:
            # Before the first frame is read, where the capture knows; each frame is looked at as well.
            sides = (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
            frames.check_size(*(int(self._capture.get(side)) for side in sides))
            return
        raise fault

    def read(self) -> Frame:
        """Wait for the next frame.

        Raises
        ------
        NoFrameYetError
            None has come, and the camera waits for its trigger, or gave a part of one: ask again.
        SourceError
            There is none, or it is no image: a camera does not end by itself.
        """
        begin = time.monotonic()
        while True:
            try:
                return self._read()
            except NoFrameYetError as nothing:
                waited_s = time.monotonic() - begin
                if nothing.may_last:
                    raise
                if waited_s >= self._read_timeout_s:
                    raise SourceError(f"{self._frames.uri}: no data for {waited_s:.1f} s") from None

    @property
    def lost(self) -> Lost:
        """What the camera knows to have sent in vain since the connection; most cameras know nothing of it."""
        capture = self._capture
        return Lost(getattr(capture, "lost_packets", 0), getattr(capture, "lost_frames", 0))

    def _read(self) -> Frame:
        begin = time.monotonic()
        try:
            with quiet_opencv():
                ok, image = self._capture.read()
        except cv2.error as error:
            raise self._opencv_failed("reading", error) from None
        waited_s = time.monotonic() - begin
        after = f"after {self._frames.captured} frames"
        # When nothing more comes, decoders give what they held back: old images, which would pass for new ones.
        if waited_s >= 0.9 * self._read_timeout_s:
            raise SourceError(f"{self._frames.uri}: no data for {waited_s:.1f} s, {after}")
        if ok:
            return self._captured(image)
        raise SourceError(f"{self._frames.uri}: the stream ended or the connection was lost, {after}")

    def begin_again(self) -> None:
        """Take what was read last for damaged: no part of it comes again."""
        if hasattr(self._capture, "begin_again"):
            self._capture.begin_again()

    def close(self) -> None:
        self._capture.release()

    def _captured(self, image: np.ndarray) -> Frame:
        lines: FrameLines | None = getattr(self._capture, "lines", None)
        self._frames.captured += lines is not None and lines.lost_lines > 0  # what was begun: a gap in the numbers
        try:
            return replace(self._frames.capture(image), lines=lines)
        except FrameSizeError:
            raise
        except SourceError as error:
            raise CorruptFrameError(str(error)) from error

    def _opencv_failed(self, doing: str, error: cv2.error) -> SourceError:
        # Neither quoted nor chained: OpenCV puts the whole URL into some of its messages.
        where = f"frame {self._frames.captured}: " if doing == "reading" else ""
        return SourceError(f"{self._frames.uri}: {where}OpenCV failed while {doing} (code {error.code})")
