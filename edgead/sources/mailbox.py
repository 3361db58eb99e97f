"""A mailbox with one slot that always holds the newest frame."""

from __future__ import annotations

import threading
import time

from edgead.types import Frame


class Mailbox:
    """Hands the newest frame from a reader thread to a consumer.

    A queue would either grow or drop the newest frame; a line wants the newest one, and wants to know how
    many it missed: `dropped` counts them.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._frame: Frame | None = None
        self._ended = False
        self._fault: Exception | None = None
        self._changed = threading.Condition()

    def put(self, frame: Frame) -> None:
        """Store a frame; one that nobody took is dropped and counted."""
        with self._changed:
            self.dropped += self._frame is not None
            self._frame = frame
            self._changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until the frame was taken, or none is wanted any more; False where that was not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._frame is None or self._ended, timeout_s)

    def end(self, fault: Exception | None = None) -> None:
        """Say that no frame will follow; the first word counts. A frame that lies here is still delivered."""
        with self._changed:
            if not self._ended:
                self._ended, self._fault = True, fault
                self._changed.notify_all()

    def get(self, timeout_s: float) -> Frame | None:
        """Wait for a frame and take it; None says that the stream has ended.

        Raises
        ------
        TimeoutError
            Neither a frame nor the end came in time.
        Exception
            The fault that `end` was given.
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
