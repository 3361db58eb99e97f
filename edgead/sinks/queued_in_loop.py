"""A queued sink in the camera loop, which asks its sinks nothing before the end."""

from __future__ import annotations

from edgead.sinks.contract import SinkError
from edgead.sinks.queued import QueuedSink

_DRAIN_S = 5.0


class QueuedInLoop:
    """A queued sink that reports what was not delivered when it closes: the camera loop asks nothing before."""

    def __init__(self, queued: QueuedSink):
        self.uri = queued.uri
        self.write = queued.write
        self._queued = queued
        self._closed = False

    @property
    def problem(self) -> str | None:
        return self._queued.status().problem

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queued.close(_DRAIN_S)
        status = self._queued.status()
        lost = status.dropped + status.failed + status.waiting
        if lost:
            reason = f": {status.problem}" if status.problem else ""
            raise SinkError(f"{self.uri}: {lost} verdicts were not delivered{reason}")
