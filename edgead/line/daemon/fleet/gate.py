"""Gate of a rollout: open once enough trial devices (canaries) have judged without fault for long enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgead.line.daemon.fleet.devices import FleetDevice
from edgead.line.daemon.fleet.report import PipelineReport


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """Answer of the gate, with its reason."""

    answer: Literal["wait", "go", "stop"]
    reason: str


class CanaryGate:
    """Gate that assesses the devices which follow a tag.

    `source`: the tag, as the devices' site files name it.
    `digest`: digest of the model that the tag names.
    `healthy`: number of devices that must judge by this model.
    `for_s`: seconds for which they must judge by it without interruption.
    """

    def __init__(self, source: str, digest: str, *, healthy: int, for_s: float):
        self._source, self._digest, self._needed, self._for_s = source, digest, healthy, for_s
        self._since_s: float | None = None

    def ask(self, devices: Iterable[FleetDevice], now_s: float) -> GateAnswer:
        """Assess all devices: "wait", "go", or "stop" if one has refused the model or gone back from it."""
        healthy, faults, refusals = self._count(devices, now_s)
        if refusals:
            return GateAnswer("stop", "; ".join(refusals))
        if faults or healthy < self._needed:
            self._since_s = None
            return GateAnswer("wait", "; ".join([f"{healthy} of {self._needed} judge by it", *faults]))
        if self._since_s is None:
            self._since_s = now_s
        left_s = self._for_s - (now_s - self._since_s)
        if left_s > 0:
            return GateAnswer("wait", f"{healthy} judge by it; {left_s:.0f} s more")
        return GateAnswer("go", f"{healthy} have judged by it for {self._for_s:.0f} s")

    def _count(self, devices: Iterable[FleetDevice], now_s: float) -> tuple[int, list[str], list[str]]:
        healthy = 0
        faults: list[str] = []
        refusals: list[str] = []
        for device in devices:
            if device.report is None:
                continue
            ours = [one for one in device.report.pipelines.values() if one.follows == self._source]
            there = device.there(now_s)
            # The last report of a device that is off counts if it refused, but not if it was healthy.
            for one in (one for one in ours if one.tag_digest == self._digest):
                if one.following in ("refused", "pinned"):
                    refusals.append(f"{device.name}: {one.following}: {one.why}")
                elif one.state == "fault" and there:
                    faults.append(f"{device.name}: in fault: {one.reason}")
            healthy += bool(ours) and there and all(map(self._good, ours))
        return healthy, faults, refusals

    def _good(self, one: PipelineReport) -> bool:
        return (one.digest, one.following, one.state) == (self._digest, "current", "running")
