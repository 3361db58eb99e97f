"""State of a pipeline with its reason: a pipeline may have faults of several kinds at once."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timezone
from typing import Literal

from edgead.line.site.status import State

logger = logging.getLogger(__name__)

Kind = Literal["program", "hang", "model", "frame", "camera", "trigger"]
# The fault shown first is the one that blocks all after it.
_KINDS: tuple[Kind, ...] = ("program", "hang", "model", "frame", "camera", "trigger")
_RESTS: tuple[State, ...] = ("paused", "stopped")


class PipelineState:
    """State of a pipeline, whose every change is logged.

    `state`: {"starting", "running", "paused", "fault", "stopped"}.
    `since`: when the state last changed, on the wall clock; for display only.
    """

    def __init__(self, name: str):
        self.state: State = "starting"
        self.reason: str | None = None
        self.since = datetime.now(timezone.utc)
        self._name = name
        self._base: State = "starting"
        self._base_reason: str | None = None
        self._faults: dict[Kind, str] = {}
        self._lock = threading.Lock()

    def starting(self, reason: str | None = None) -> None:
        self._become("starting", reason)

    def running(self) -> None:
        self._become("running", None)

    def paused(self, reason: str) -> None:
        self._become("paused", reason)

    def stopped(self, reason: str | None = None) -> None:
        self._become("stopped", reason)

    def fault(self, kind: Kind, reason: str) -> None:
        with self._lock:
            self._faults[kind] = reason
            self._update()

    def resolved(self, kind: Kind) -> None:
        if kind in self._faults:  # every frame comes by here
            with self._lock:
                self._faults.pop(kind, None)
                self._update()

    def has(self, kind: Kind) -> bool:
        return kind in self._faults

    def faults(self) -> dict[Kind, str]:
        """Return the reasons of all present faults, most urgent first; empty while paused or stopped."""
        with self._lock:
            rests = self.state in _RESTS
            return {} if rests else {kind: self._faults[kind] for kind in _KINDS if kind in self._faults}

    def _become(self, state: State, reason: str | None) -> None:
        if (self._base, self._base_reason) != (state, reason):
            with self._lock:
                self._base, self._base_reason = state, reason
                self._update()

    def _update(self) -> None:
        state, reason = self._base, self._base_reason
        if self._faults and state not in _RESTS:
            state = "fault"
            reason = next(self._faults[kind] for kind in _KINDS if kind in self._faults)
        if (state, reason) == (self.state, self.reason):
            return
        if state != self.state:
            self.since = datetime.now(timezone.utc)
        self.state, self.reason = state, reason
        level = logging.ERROR if state == "fault" else logging.INFO
        text = f"{self._name}: {state}" + (f": {reason}" if reason else "")
        logger.log(level, text, extra={"pipeline": self._name, "state": state, "reason": reason})
