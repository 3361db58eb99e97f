"""Gate between canaries and all devices: enough canaries have judged by a model, well, for a while."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgead.line.daemon.fleet.devices import Device
from edgead.line.daemon.fleet.report import PipelineReport


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the canaries say."""

    answer: Literal["wait", "go", "stop"]
    reason: str


class Gate:
    """Asks the devices that follow a tag.

    Parameters
    ----------
    source : str
        The tag, as in their site files.
    digest : str
        What it leads to.
    healthy : int
        So many of them must judge by it.
    for_s : float
        And for so long, without one that does not.
    """

    def __init__(self, source: str, digest: str, *, healthy: int, for_s: float):
        self._source, self._digest, self._needed, self._for_s = source, digest, healthy, for_s
        self._since_s: float | None = None

    def ask(self, devices: Iterable[Device], now_s: float) -> Opinion:
        """Look at all devices; "stop" where one has refused the model, or somebody went back from it."""
        healthy, faults, refusals = self._count(devices, now_s)
        if refusals:
            return Opinion("stop", "; ".join(refusals))
        if faults or healthy < self._needed:
            self._since_s = None
            return Opinion("wait", "; ".join([f"{healthy} of {self._needed} judge by it", *faults]))
        if self._since_s is None:
            self._since_s = now_s
        left_s = self._for_s - (now_s - self._since_s)
        if left_s > 0:
            return Opinion("wait", f"{healthy} judge by it; {left_s:.0f} s more")
        return Opinion("go", f"{healthy} have judged by it for {self._for_s:.0f} s")

    def _count(self, devices: Iterable[Device], now_s: float) -> tuple[int, list[str], list[str]]:
        healthy = 0
        faults: list[str] = []
        refusals: list[str] = []
        for device in devices:
            if device.report is None:
                continue
            ours = [one for one in device.report.pipelines.values() if one.follows == self._source]
            there = device.there(now_s)
            # What a device said before it went off counts where it refused, and not where it was well.
            for one in (one for one in ours if one.tag_digest == self._digest):
                if one.following in ("refused", "pinned"):
                    refusals.append(f"{device.name}: {one.following}: {one.why}")
                elif one.state == "fault" and there:
                    faults.append(f"{device.name}: in fault: {one.reason}")
            healthy += bool(ours) and there and all(map(self._good, ours))
        return healthy, faults, refusals

    def _good(self, one: PipelineReport) -> bool:
        return (one.digest, one.following, one.state) == (self._digest, "current", "running")
