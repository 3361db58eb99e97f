"""Which frames of a camera are judged."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from edgead.config import TriggerSection
from edgead.errors import SettingsError
from edgead.types import Frame


class Trigger(Protocol):
    def accepts(self, frame: Frame) -> bool: ...

    def close(self) -> None: ...


class EveryFrameTrigger:
    def accepts(self, frame: Frame) -> bool:
        return True

    def close(self) -> None: ...


class SoftwareTrigger:
    def __init__(self) -> None:
        self._fired_ns: int | None = None
        self._lock = threading.Lock()

    def fire(self) -> None:
        with self._lock:
            self._fired_ns = time.perf_counter_ns()

    def accepts(self, frame: Frame) -> bool:
        with self._lock:
            if self._fired_ns is None or frame.captured_ns < self._fired_ns:
                return False
            self._fired_ns = None
            return True

    def close(self) -> None: ...


def open_trigger(section: TriggerSection) -> Trigger:
    if section.kind == "every_frame":
        return EveryFrameTrigger()
    if section.kind == "software":
        return SoftwareTrigger()
    raise SettingsError(f"trigger {section.kind} is not there yet")
