"""Live source, with a reader thread that keeps up with the camera and a mailbox for its newest frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from edgead.images.files import MAX_MEGAPIXELS
from edgead.sources.connection import CameraConnection, LiveAddress, NoFrameYetError
from edgead.sources.contract import Counters, FrameCounter, SourceError
from edgead.types import Frame

# Time after which a waiting consumer notices that it should stop.
_POLL_S = 0.1
# OpenCV checks its own time limits only between packets, so the consumer waits this much longer before it gives up.
_GRACE_S = 1.0
# A reader that hangs inside OpenCV cannot be interrupted (opencv/opencv#22677), so closing waits no longer than this.
_JOIN_S = 1.0


class Mailbox:
    """Slot for one frame, through which a reader thread passes its newest frame to a consumer.

    A queue would either grow or drop the newest frame; a line needs the newest frame, and the number of frames that it
    missed, which `dropped` counts.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._frame: Frame | None = None
        self._ended = False
        self._fault: Exception | None = None
        self._changed = threading.Condition()

    def put(self, frame: Frame, unseen: int = 0) -> None:
        """Store a frame; a frame that nobody took before it is dropped and counted, as are `unseen` lost frames."""
        with self._changed:
            self.dropped += unseen + (self._frame is not None)
            self._frame = frame
            self._changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until the frame was taken or the mailbox ended; False if neither happened in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._frame is None or self._ended, timeout_s)

    def end(self, fault: Exception | None = None) -> None:
        """Announce that no frame will follow; only the first call counts. A stored frame is still delivered."""
        with self._changed:
            if not self._ended:
                self._ended, self._fault = True, fault
                self._changed.notify_all()

    def get(self, timeout_s: float) -> Frame | None:
        """Wait for a frame and take it; None if the stream has ended.

        Raises TimeoutError: neither a frame nor the end came in time.
        Raises Exception: the fault that was passed to `end`.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._frame is None and not self._ended:
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0:
                    raise TimeoutError
                self._changed.wait(remaining_s)
            if self._frame is not None:
                frame, self._frame = self._frame, None
                self._changed.notify_all()
                return frame
            if self._fault is not None:
                raise self._fault
            return None


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """Limits of a live source: its time limits, the largest size of its frames, and the event that ends it."""

    open_timeout_s: float = 5.0
    read_timeout_s: float = 5.0
    late_after_ms: float | None = None
    stop: threading.Event | None = None
    max_megapixels: float = MAX_MEGAPIXELS


class LiveSource:
    """Source of frames at the pace of a camera; the consumer always gets the newest frame.

    Everything that can hang (opening, reading) happens in the reader thread, so that every error is reported
    within the limits. The end of a live stream is a fault, as a camera does not end by itself.

    `address`: address of the camera; its display form is in every frame and error.
    """

    live = True

    def __init__(self, address: LiveAddress, limits: LiveLimits):
        self.uri = uri = address.shown
        self._connect = address.connect
        self._limits = limits
        self._frames = FrameCounter(uri, late_after_ms=limits.late_after_ms, max_megapixels=limits.max_megapixels)
        self._mailbox = Mailbox()
        self._opened = threading.Event()
        self._closing = threading.Event()
        self._waits_until_s = 0.0
        self._open_fault: SourceError | None = None
        # A daemon thread, as a reader that hangs in a driver must not keep the process alive.
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
        return Counters(self._frames.captured, self._mailbox.dropped, self._frames.late)

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
                if time.monotonic() > max(deadline, self._waits_until_s):
                    raise SourceError(f"{self.uri}: no frame for {self._limits.read_timeout_s:g} s") from None
        return None

    def _read(self) -> None:
        try:
            connection = CameraConnection(self._frames, self._connect, self._limits.read_timeout_s)
        except SourceError as fault:
            self._open_fault = fault
            return
        finally:
            self._opened.set()
        try:
            while not self._closing.is_set():
                try:
                    self._mailbox.put(connection.read())
                except NoFrameYetError:  # the camera waits for its trigger or for more lines, which may take long
                    self._waits_until_s = time.monotonic() + self._limits.read_timeout_s
        except SourceError as fault:
            self._mailbox.end(fault)
        finally:
            # Only the first `end` counts: after a close, a live stream ends without a fault.
            closed = self._closing.is_set()
            self._mailbox.end(None if closed else SourceError(f"{self.uri}: the reader failed"))
            connection.close()
