"""Connection to a live camera, which reports every failure without credentials."""

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
    """Those methods of `cv2.VideoCapture` that a connection uses."""

    def get(self, propId: int, /) -> float: ...
    def read(self) -> tuple[bool, Any]: ...
    def release(self) -> None: ...


Connect = Callable[[], Capture]
"""Gives an opened capture or raises SourceError."""


@dataclass(frozen=True, slots=True)
class LiveAddress:
    """Address of a live camera: its URI without credentials for display, and how to connect to it."""

    shown: str
    connect: Connect


class CorruptFrameError(SourceError):
    """Frame whose data is no image; the next frame may be one."""


class NoFrameYetError(SourceError):
    """Signal that no frame has come yet, since the camera waits for a trigger, or for more lines of a frame."""

    def __init__(self, *, may_last: bool):
        super().__init__("no frame has come so far")
        self.may_last = may_last


@dataclass(frozen=True, slots=True)
class Lost:
    """Counts of lost packets and lost frames, as the camera reports them."""

    packets: int = 0
    frames: int = 0


class CameraConnection:
    """Open camera; opening and reading may block for any time, so use it in a thread or process that can wait.

    Raises SourceError: the camera cannot be opened.
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
            # Checked before the first frame if the capture knows the size, and again for each frame.
            sides = (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
            frames.check_size(*(int(self._capture.get(side)) for side in sides))
            return
        raise fault

    def read(self) -> Frame:
        """Wait for the next frame.

        Raises NoFrameYetError: the camera still waits for its trigger, or for more lines of the frame; call again.
        Raises SourceError: no data came in time, reading failed, the data is no image, or the stream has ended.
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
        """Packets and frames lost since the connection was made; 0 for most cameras, which do not count them."""
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
        # At the end of a stream, decoders return the frames they held back: old images, which would pass for new ones.
        if waited_s >= 0.9 * self._read_timeout_s:
            raise SourceError(f"{self._frames.uri}: no data for {waited_s:.1f} s, {after}")
        if ok:
            return self._captured(image)
        raise SourceError(f"{self._frames.uri}: the stream ended or the connection was lost, {after}")

    def begin_again(self) -> None:
        """Discard the image that was read last as damaged; a line scan discards its partial frame too."""
        if hasattr(self._capture, "begin_again"):
            self._capture.begin_again()

    def close(self) -> None:
        self._capture.release()

    def _captured(self, image: np.ndarray) -> Frame:
        lines: FrameLines | None = getattr(self._capture, "lines", None)
        self._frames.captured += lines is not None and lines.lost_lines > 0  # a gap for the discarded frame
        try:
            return replace(self._frames.capture(image), lines=lines)
        except FrameSizeError:
            raise
        except SourceError as error:
            raise CorruptFrameError(str(error)) from error

    def _opencv_failed(self, doing: str, error: cv2.error) -> SourceError:
        # Neither quoted nor chained: some of OpenCV's messages contain the whole URL.
        where = f"frame {self._frames.captured}: " if doing == "reading" else ""
        return SourceError(f"{self._frames.uri}: {where}OpenCV failed while {doing} (code {error.code})")
