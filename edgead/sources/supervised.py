"""A camera that is opened again when it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np

from edgead.config import CameraSection
from edgead.sources import SourceError, open_source, without_credentials
from edgead.sources.mailbox import Mailbox
from edgead.types import Frame


@dataclass(frozen=True, slots=True)
class CameraStatus:
    name: str
    uri: str
    state: str
    reason: str | None
    since: datetime
    fps: float | None
    age_s: float | None
    captured: int
    reconnects: int
    corrupt: int
    duplicates: int
    health: tuple[str, ...]


class SupervisedCamera:
    def __init__(self, name: str, section: CameraSection, *, golden: Sequence[np.ndarray] = ()):
        self.name, self.section = name, section
        self._boxes: list[Mailbox] = []
        self._stop = threading.Event()
        self._state, self._reason, self._since = "connecting", None, datetime.now(timezone.utc)
        self._captured = self._reconnects = 0
        self._latest: Frame | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def subscribe(self) -> Mailbox:
        box = Mailbox()
        self._boxes.append(box)
        return box

    def latest(self) -> Frame | None:
        return self._latest

    def status(self) -> CameraStatus:
        age = (time.perf_counter_ns() - self._latest.captured_ns) / 1e9 if self._latest else None
        uri = without_credentials(self.section.uri)
        return CameraStatus(
            self.name,
            uri,
            self._state,
            self._reason,
            self._since,
            None,
            age,
            self._captured,
            self._reconnects,
            0,
            0,
            (),
        )

    def close(self) -> None:
        self._stop.set()
        self._thread.join(1.0)

    def _become(self, state: str, reason: str | None = None) -> None:
        self._state, self._reason, self._since = state, reason, datetime.now(timezone.utc)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                source = open_source(self.section.uri, stop=self._stop)
                self._become("streaming")
                for frame in source:
                    if self._stop.is_set():
                        break
                    frame = replace(frame, source=self.name)
                    self._latest = frame
                    self._captured += 1
                    for box in self._boxes:
                        box.put(frame)
                source.close()
                if not source.live and not self._stop.is_set():
                    self._become("ended", "the source came to its end")
                    for box in self._boxes:
                        box.end()
                    return
            except SourceError as error:
                self._become("lost", str(error))
                self._reconnects += 1
                self._stop.wait(self.section.retry_first_s)
