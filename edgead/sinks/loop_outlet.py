"""An outlet in the camera loop, which asks its sinks nothing before the end."""

from __future__ import annotations

from edgead.sinks.contract import SinkError
from edgead.sinks.outlet import Outlet

_DRAIN_S = 5.0


class LoopOutlet:
    """An outlet that tells at its end what was not delivered, for the camera loop asks it nothing before."""

    def __init__(self, outlet: Outlet):
        self.uri = outlet.uri
        self.write = outlet.write
        self._outlet = outlet
        self._closed = False

    @property
    def problem(self) -> str | None:
        return self._outlet.status().problem

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._outlet.close(_DRAIN_S)
        status = self._outlet.status()
        lost = status.dropped + status.failed + status.waiting
        if lost:
            reason = f": {status.problem}" if status.problem else ""
            raise SinkError(f"{self.uri}: {lost} verdicts were not delivered{reason}")
