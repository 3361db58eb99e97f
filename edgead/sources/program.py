"""A program that writes raw frames to its standard output, read as a camera: it needs no special OpenCV."""

from __future__ import annotations

import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from edgead.sources.contract import SourceError
from edgead.sources.live import Limits

_PIPE_BYTES = 1 << 20  # the default of 64 KiB costs a 1080p frame a hundred changes between the two processes
_END_S = 1.0


@dataclass(frozen=True, slots=True)
class RawFrames:
    """How frames follow each other.

    Attributes
    ----------
    width, height : int
    coding : "bgr" or "yuv420"
        Rows of BGR, each filled up to four bytes as GStreamer does; or planes without filling, the chroma planes of
        half the width and half the height.
    """

    width: int
    height: int
    coding: Literal["bgr", "yuv420"]

    @property
    def nbytes(self) -> int:
        return self._row_bytes * self.height * (3 if self.coding == "yuv420" else 2) // 2

    @property
    def _row_bytes(self) -> int:
        return self.width if self.coding == "yuv420" else -(-3 * self.width // 4) * 4

    def decode(self, data: bytearray) -> np.ndarray:
        """Make the image, (H, W, 3) uint8 BGR, of the bytes of one frame."""
        rows = np.frombuffer(data, np.uint8).reshape(-1, self._row_bytes)
        if self.coding == "yuv420":
            return cv2.cvtColor(rows, cv2.COLOR_YUV2BGR_I420)
        return rows[:, : 3 * self.width].reshape(self.height, self.width, 3)


class ProgramCapture:
    """Runs the program until `release`; has of `cv2.VideoCapture` what a connection needs.

    Parameters
    ----------
    shown : str
        What stands in errors for the camera.
    command : sequence of str
    frames : RawFrames
    limits : Limits

    Raises
    ------
    SourceError
        The program is not installed, ends, or gives nothing in time; what it said last is quoted.
    """

    def __init__(self, shown: str, command: Sequence[str], frames: RawFrames, limits: Limits):
        self._frames, self._limits = frames, limits
        self._said: deque[str] = deque(maxlen=20)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pipesize=_PIPE_BYTES,
            )
        except OSError as error:
            raise SourceError(f"{shown}: {command[0]} cannot be started: {error.strerror}") from None
        self._listener = threading.Thread(target=self._listen, name=f"errors of {command[0]}", daemon=True)
        self._listener.start()
        self._first = self._next(limits.open_timeout_s)
        if self._first is None:
            self.release()
            raise SourceError(f"{shown}: {command[0]} gives no frame: {self._last_words()}")

    def get(self, side: int) -> float:
        """Width or height; 0 for every other property of OpenCV."""
        sides = {cv2.CAP_PROP_FRAME_WIDTH: self._frames.width, cv2.CAP_PROP_FRAME_HEIGHT: self._frames.height}
        return sides.get(side, 0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Wait for the next frame; False where the program has ended, or takes longer than the limit."""
        data, self._first = self._first or self._next(self._limits.read_timeout_s), None
        return (False, None) if data is None else (True, self._frames.decode(data))

    def release(self) -> None:
        """End the program, also one that hangs."""
        self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            pass  # the kernel holds it, in a driver
        self._listener.join(_END_S)

    def _next(self, timeout_s: float) -> bytearray | None:
        deadline_s = time.monotonic() + timeout_s
        data = bytearray(self._frames.nbytes)
        missing, pipe = memoryview(data), self._process.stdout
        assert pipe is not None
        while missing:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([pipe], [], [], left_s)[0]:
                return None
            count = pipe.readinto(missing)  # type: ignore[attr-defined]  # unbuffered: a FileIO
            if not count:
                return None
            missing = missing[count:]
        return data

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            for line in pipe:
                self._said.append(line.decode(errors="replace").strip())

    def _last_words(self) -> str:
        """The line that names the error, or else the last one."""
        said = [line for line in self._said if line]
        return next((line for line in said if "error" in line.lower()), said[-1] if said else "it says nothing")
