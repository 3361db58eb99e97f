"""A live source: a reader thread that keeps up with the camera, and a mailbox that holds its newest frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2

from edgead.quiet import quiet_opencv
from edgead.sources.contract import Counters, FrameCounter, SourceError
from edgead.sources.mailbox import Mailbox
from edgead.types import Frame

# How soon a consumer that waits for a frame notices that it should stop.
_POLL_S = 0.1
# OpenCV checks its own time limits between packets; the consumer allows it this much more before it gives up.
_GRACE_S = 1.0
# A reader that hangs inside OpenCV cannot be interrupted (opencv/opencv#22677): closing does not wait longer.
_JOIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a live source may take, and what ends it."""

    open_timeout_s: float = 5.0
    read_timeout_s: float = 5.0
    late_after_ms: float | None = None
    stop: threading.Event | None = None


class LiveSource:
    """Frames at the pace of a camera; the consumer always gets the newest one.

    Everything that can hang (opening, reading) happens in the reader thread, so that no error takes longer
    than the limits say. The end of a live stream is a fault: a camera does not end by itself.

    Parameters
    ----------
    uri : str
        Without credentials; stands in every frame and every error.
    connect : callable
        Gives an opened `cv2.VideoCapture` or raises SourceError; called in the reader thread.
    limits : Limits
    """

    live = True

    def __init__(self, uri: str, connect: Callable[[], cv2.VideoCapture], limits: Limits):
        self.uri = uri
        self._connect = connect
        self._limits = limits
        self._frames = FrameCounter(uri, late_after_ms=limits.late_after_ms)
        self._mailbox = Mailbox()
        self._opened = threading.Event()
        self._closing = threading.Event()
        self._open_fault: SourceError | None = None
        # A daemon: a reader that hangs in a driver must not keep the process alive.
        self._reader = threading.Thread(target=self._read, name=f"edgead {uri}", daemon=True)
        self._reader.start()
        in_time = self._opened.wait(limits.open_timeout_s + _GRACE_S)
        if not in_time:
            self._closing.set()
            raise SourceError(f"{uri}: did not open within {limits.open_timeout_s:g} s")
        if self._open_fault is not None:
            raise self._open_fault

    @property
    def counters(self) -> Counters:
        return Counters(self._frames.captured, self._mailbox.overwritten, self._frames.late)

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._next()) is not None:
            yield self._frames.hand_over(frame)

    def close(self) -> None:
        self._closing.set()
        self._mailbox.end()
        if threading.current_thread() is not self._reader:
            self._reader.join(_JOIN_S)

    def _next(self) -> Frame | None:
        stop = self._limits.stop
        deadline = time.monotonic() + self._limits.read_timeout_s + _GRACE_S
        while not self._closing.is_set() and not (stop and stop.is_set()):
            try:
                return self._mailbox.get(_POLL_S)
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise SourceError(f"{self.uri}: no frame for {self._limits.read_timeout_s:g} s") from None
        return None

    def _read(self) -> None:
        try:
            with quiet_opencv():
                capture = self._connect()
        except SourceError as fault:
            self._open_fault = fault
            return
        except cv2.error as error:
            self._open_fault = self._opencv_failed("opening", error)
            return
        finally:
            self._opened.set()
        try:
            while not self._closing.is_set():
                self._read_one(capture)
        except SourceError as fault:
            self._mailbox.end(fault)
        finally:
            # The first word counts: only a close ends a live stream without a fault.
            closed = self._closing.is_set()
            self._mailbox.end(None if closed else SourceError(f"{self.uri}: the reader failed"))
            capture.release()

    def _read_one(self, capture: cv2.VideoCapture) -> None:
        begin = time.monotonic()
        try:
            with quiet_opencv():
                ok, image = capture.read()
        except cv2.error as error:
            raise self._opencv_failed("reading", error) from None
        if ok:
            self._mailbox.put(self._frames.capture(image))
            return
        waited_s = time.monotonic() - begin
        after = f"after {self._frames.captured} frames"
        if waited_s >= 0.9 * self._limits.read_timeout_s:
            raise SourceError(f"{self.uri}: no data for {waited_s:.1f} s, {after}")
        raise SourceError(f"{self.uri}: the stream ended or the connection was lost, {after}")

    def _opencv_failed(self, doing: str, error: cv2.error) -> SourceError:
        # Neither quoted nor chained: OpenCV puts the whole URL into some of its messages.
        where = f"frame {self._frames.captured}: " if doing == "reading" else ""
        return SourceError(f"{self.uri}: {where}OpenCV failed while {doing} (code {error.code})")
