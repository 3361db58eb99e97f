"""Load from others during a measurement: other processes, and other guests of the hypervisor."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
# Threshold for a remark: less does not move a median, and every idle machine has some.
_MIN_CORES = 0.01


@dataclass(frozen=True, slots=True)
class OtherUse:
    """Average number of cores used by others; 0.5 is half of one.

    `processes`: cores used by other processes and interrupts.
    `hypervisor`: cores given to other guests while this machine had work ("steal"): no setting fixes this tail of
        latencies.
    """

    processes: float
    hypervisor: float

    @property
    def cores(self) -> float:
        return self.processes + self.hypervisor


class OtherLoad:
    """Meter of the load from others, since the object was made."""

    def __init__(self) -> None:
        self._start = _clocks()

    def use(self) -> OtherUse | None:
        """Return the load from others since the start; None if unknown."""
        if self._start is None or (now := _clocks()) is None:
            return None
        wall, busy, own, stolen = (after - before for after, before in zip(now, self._start, strict=True))
        wall = max(wall, 1e-9)
        return OtherUse(max(0.0, busy - own) / wall, max(0.0, stolen) / wall)


def describe_use(use: OtherUse | None) -> str:
    """Format a load as a suffix that begins with "; "; empty if it is negligible."""
    if use is None:
        return ""
    uses = (("other processes used", use.processes), ("the hypervisor took", use.hypervisor))
    return "".join(f"; {what} {cores:.2f} cores" for what, cores in uses if cores >= _MIN_CORES)


def _clocks() -> tuple[float, float, float, float] | None:
    """Read the seconds of wall time, of busy cores, of this process and of steal by the hypervisor."""
    try:
        line = _STAT.read_text().split("\n", 1)[0]
    except OSError:
        return None
    user, nice, system, _, _, irq, soft, steal = map(int, line.split()[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    own = os.times()
    return time.perf_counter(), (user + nice + system + irq + soft) / tick, own.user + own.system, steal / tick
