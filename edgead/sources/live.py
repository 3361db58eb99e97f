"""A live source: a reader thread that keeps up with the camera, and a mailbox that holds its newest frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from edgead.images.files import MAX_MEGAPIXELS
from edgead.sources.connection import Connection, LiveAddress, NoFrameYetError
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
    """How long a live source may take, how large its frames may be, and what ends it."""

    open_timeout_s: float = 5.0
    read_timeout_s: float = 5.0
    late_after_ms: float | None = None
    stop: threading.Event | None = None
    max_megapixels: float = MAX_MEGAPIXELS


class LiveSource:
    """Frames at the pace of a camera; the consumer always gets the newest one.

    Everything that can hang (opening, reading) happens in the reader thread, so that no error takes longer
    than the limits say. The end of a live stream is a fault: a camera does not end by itself.

    Parameters
    ----------
    address : LiveAddress
        What is shown of it stands in every frame and every error; connected to in the reader thread.
    limits : Limits
    """

    live = True

    def __init__(self, address: LiveAddress, limits: Limits):
        self.uri = uri = address.shown
        self._connect = address.connect
        self._limits = limits
        self._frames = FrameCounter(uri, late_after_ms=limits.late_after_ms, max_megapixels=limits.max_megapixels)
        self._mailbox = Mailbox()
        self._opened = threading.Event()
        self._closing = threading.Event()
        self._waits_until_s = 0.0
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
            connection = Connection(self._frames, self._connect, self._limits.read_timeout_s)
        except SourceError as fault:
            self._open_fault = fault
            return
        finally:
            self._opened.set()
        try:
            while not self._closing.is_set():
                try:
                    self._mailbox.put(connection.read())
                except NoFrameYetError:  # it waits for its trigger, which may take long
                    self._waits_until_s = time.monotonic() + self._limits.read_timeout_s
        except SourceError as fault:
            self._mailbox.end(fault)
        finally:
            # The first word counts: only a close ends a live stream without a fault.
            closed = self._closing.is_set()
            self._mailbox.end(None if closed else SourceError(f"{self.uri}: the reader failed"))
            connection.close()
