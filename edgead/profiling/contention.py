"""Other load during a measurement: other processes here, and other guests of the hypervisor."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
# Less than this does not move a median, but every idle machine would show it.
_MIN_CORES = 0.01


@dataclass(frozen=True, slots=True)
class OtherUse:
    """Cores that others used on average; 0.5 is half of one.

    Attributes
    ----------
    processes : float
        By other processes and interrupts.
    hypervisor : float
        Given to other guests while a core here had work to do ("steal"): a tail of latencies that no setting fixes.
    """

    processes: float
    hypervisor: float

    @property
    def cores(self) -> float:
        return self.processes + self.hypervisor


class OtherLoad:
    """Counts from the moment when it is made."""

    def __init__(self) -> None:
        self._start = _clocks()

    def use(self) -> OtherUse | None:
        """What others used since then; None where the system does not say."""
        if self._start is None or (now := _clocks()) is None:
            return None
        wall, busy, own, stolen = (after - before for after, before in zip(now, self._start, strict=True))
        wall = max(wall, 1e-9)
        return OtherUse(max(0.0, busy - own) / wall, max(0.0, stolen) / wall)


def describe_use(use: OtherUse | None) -> str:
    """Format as a suffix that begins with "; "; empty where it is negligible."""
    if use is None:
        return ""
    uses = (("other processes used", use.processes), ("the hypervisor took", use.hypervisor))
    return "".join(f"; {what} {cores:.2f} cores" for what, cores in uses if cores >= _MIN_CORES)


def _clocks() -> tuple[float, float, float, float] | None:
    """Seconds of wall time, of all cores in use, of this process and of what the hypervisor took."""
    try:
        line = _STAT.read_text().split("\n", 1)[0]
    except OSError:
        return None
    user, nice, system, _, _, irq, soft, steal = map(int, line.split()[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    own = os.times()
    return time.perf_counter(), (user + nice + system + irq + soft) / tick, own.user + own.system, steal / tick
