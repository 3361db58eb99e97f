"""Record of a camera: its state, why, since when, and what became of its frames."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

import cv2
import numpy as np

from edgead.sources.connection import Lost
from edgead.types import Frame

CameraState = Literal["connecting", "streaming", "stalled", "lost", "ended"]

_RATE_FRAMES = 30  # that a frame rate is taken from


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """State of a camera.

    Attributes
    ----------
    uri : str
        Without credentials.
    state : {"connecting", "streaming", "stalled", "lost", "ended"}
        "stalled": connected, but the newest frame is older than `stalled_after_s`. "lost": the connection failed and
        the next attempt waits. "ended": a recording that came to its end.
    reason : str or None
        Why it is not streaming, or was not before.
    fps : float or None
        Over the newest 30 frames at most, while it is streaming.
    age_s : float or None
        Age of the newest frame.
    captured, reconnects, corrupt, duplicates : int
        Frames that came, connections after the first, images that were none, frames equal to the one before.
    lost_packets, lost_frames : int
        What the camera sent in vain, as far as it counts that: GenICam cameras do.
    health : tuple of str
        What is wrong with the images: "dark", "bright", "blurred", "moved", "frozen".
    """

    name: str
    uri: str
    state: CameraState
    reason: str | None
    since: datetime
    fps: float | None
    age_s: float | None
    captured: int
    reconnects: int
    corrupt: int
    duplicates: int
    lost_packets: int
    lost_frames: int
    health: tuple[str, ...]


class CameraRecord:
    """Keeps the state of one camera; safe from any thread.

    Parameters
    ----------
    frozen_after : int
        Equal frames in a row that make a camera frozen.
    """

    def __init__(self, name: str, uri: str, frozen_after: int):
        self._name, self._uri, self._frozen_after = name, uri, frozen_after
        self._lock = threading.Lock()
        self._state: CameraState = "connecting"
        self._reason: str | None = None
        self._since = datetime.now(timezone.utc)
        self._captured = self._connections = self._corrupt = self._duplicates = self._equal = 0
        self._lost = Lost()
        self._times_ns: deque[int] = deque(maxlen=_RATE_FRAMES)
        self._latest: Frame | None = None
        self._connected = False
        self._health: tuple[str, ...] = ()

    @property
    def latest(self) -> Frame | None:
        return self._latest

    @property
    def captured(self) -> int:
        return self._captured

    def become(self, state: CameraState, reason: str | None = None) -> None:
        """Change the state; without a reason, that of the last trouble stays, until frames come."""
        with self._lock:
            if state != self._state:
                self._state, self._since = state, datetime.now(timezone.utc)
            self._reason = reason or self._reason
            if state in ("connecting", "lost"):
                self._connected = False
                self._times_ns.clear()

    def arrived(self, frame: Frame) -> None:
        """Count a frame: the camera is streaming."""
        before = self._latest
        equal = before is not None and before.image.shape == frame.image.shape and _is_equal(before.image, frame.image)
        with self._lock:
            self._captured += 1
            self._connections += not self._connected
            self._connected = True
            self._equal = self._equal + 1 if equal else 0
            self._duplicates += equal
            self._times_ns.append(frame.captured_ns)
            self._latest = frame
            self._reason = None
            if self._state != "streaming":
                self._state, self._since = "streaming", datetime.now(timezone.utc)

    def count_corrupt(self, number: int) -> None:
        with self._lock:
            self._corrupt += number

    def count_lost(self, lost: Lost) -> None:
        with self._lock:
            self._lost = Lost(self._lost.packets + lost.packets, self._lost.frames + lost.frames)

    def judge(self, health: tuple[str, ...]) -> None:
        """Take what was found wrong with the newest image."""
        self._health = health

    def status(self) -> CameraStatus:
        with self._lock:
            latest, times_ns = self._latest, self._times_ns
            streaming = self._state == "streaming" and len(times_ns) > 1 and times_ns[-1] > times_ns[0]
            frozen = ("frozen",) if self._equal + 1 >= self._frozen_after else ()
            return CameraStatus(
                name=self._name,
                uri=self._uri,
                state=self._state,
                reason=self._reason,
                since=self._since,
                fps=(len(times_ns) - 1) / (times_ns[-1] - times_ns[0]) * 1e9 if streaming else None,
                age_s=None if latest is None else (time.perf_counter_ns() - latest.captured_ns) / 1e9,
                captured=self._captured,
                reconnects=max(0, self._connections - 1),
                corrupt=self._corrupt,
                duplicates=self._duplicates,
                lost_packets=self._lost.packets,
                lost_frames=self._lost.frames,
                health=(*self._health, *frozen),
            )


def _is_equal(one: np.ndarray, other: np.ndarray) -> bool:
    # A sensor has noise: an image that does not differ in one pixel was not taken again. The middle row shows most.
    middle = one.shape[0] // 2
    return bool((one[middle] == other[middle]).all()) and cv2.norm(one, other, cv2.NORM_INF) == 0
