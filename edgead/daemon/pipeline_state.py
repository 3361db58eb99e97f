"""The state of a pipeline, with its reason: faults of several kinds may stand at once."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timezone
from typing import Literal

State = Literal["starting", "running", "fault", "stopped"]
Kind = Literal["program", "hang", "model", "frame", "camera", "trigger"]
# Which one is shown first: what stands in the way of all the others.
_KINDS: tuple[Kind, ...] = ("program", "hang", "model", "frame", "camera", "trigger")

logger = logging.getLogger(__name__)


class PipelineState:
    """Knows the state and logs every change of it.

    Attributes
    ----------
    state : {"starting", "running", "fault", "stopped"}
    reason : str or None
    since : datetime
        When the state last changed, on the wall clock; for display only.
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
        """Give the reasons of all faults that stand, what is shown first at the front; none of what has stopped."""
        with self._lock:
            return (
                {} if self.state == "stopped" else {kind: self._faults[kind] for kind in _KINDS if kind in self._faults}
            )

    def _become(self, state: State, reason: str | None) -> None:
        if (self._base, self._base_reason) != (state, reason):
            with self._lock:
                self._base, self._base_reason = state, reason
                self._update()

    def _update(self) -> None:
        state, reason = self._base, self._base_reason
        if self._faults and state != "stopped":
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
