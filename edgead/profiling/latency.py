"""Latency statistics: every sample counts, percentiles are real samples, and the machine is described."""

from __future__ import annotations

import os
import platform
import sys
from array import array
from bisect import bisect_left
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgead.types import StageTimes

if TYPE_CHECKING:
    from rich.table import Table

# Stages in the order of a frame; `total` runs from the capture to the last sink.
STAGES = ("age", "preprocess", "infer", "score", "smooth", "sink", "total")
BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Upper ends of the buckets of `Latency.counts`; a last one has what took longer."""
_CPU0 = Path("/sys/devices/system/cpu/cpu0")


@dataclass(frozen=True, slots=True)
class Latency:
    """Distribution of one stage's latency, in milliseconds.

    A percentile is the sample at or just above its rank (NumPy's "higher"), so it was really measured and is never too
    low. `p99_9_ms` is None for fewer than 1000 samples, which are too few for it. `counts` are of the buckets of
    `BUCKETS_MS`, and of what took longer.
    """

    n: int
    mean_ms: float
    min_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float | None
    max_ms: float
    counts: tuple[int, ...]


class LatencyRecorder:
    """Recorder of milliseconds per stage and of the times of finished frames.

    n, mean, minimum, maximum and counts cover every sample since the start; percentiles cover the newest `window`
    samples of each stage, so that memory stays bounded over months. One thread adds; any thread may read.
    """

    def __init__(self, *, window: int = 100_000):
        self._window = window
        self._stages: dict[str, _Samples] = {}
        self._stamps = 0
        self._first_ns = self._last_ns = 0

    def add(self, stage: str, ms: float) -> None:
        """Add one sample of one stage."""
        if stage not in self._stages:
            self._stages[stage] = _Samples(self._window)
        self._stages[stage].add(ms)

    def add_frame(self, times: StageTimes, *, total_ms: float, finished_ns: int) -> None:
        """Add one frame: its stage times, its total and the time (`perf_counter_ns`) when it was finished."""
        for name, ms in asdict(times).items():
            if ms is not None:
                self.add(name.removesuffix("_ms"), ms)
        self.add("total", total_ms)
        if self._stamps == 0:
            self._first_ns = finished_ns
        self._last_ns = finished_ns
        self._stamps += 1

    @property
    def fps(self) -> float | None:
        """Frames per second between the first and the last finished frame; N frames have N - 1 intervals."""
        span_s = (self._last_ns - self._first_ns) / 1e9
        return (self._stamps - 1) / span_s if self._stamps > 1 and span_s > 0 else None

    def summary(self) -> dict[str, Latency]:
        """Summarise every stage that has samples, in the order of the stages."""
        known = {name: i for i, name in enumerate(STAGES)}
        names = sorted(list(self._stages), key=lambda name: known.get(name, len(known)))
        return {name: self._stages[name].summary() for name in names}


def machine_facts() -> dict[str, Any]:
    """Collect the known facts of this machine; all values fit into JSON.

    Facts that change from minute to minute (clock, temperature, throttling, load) are under `state`: two
    measurements are comparable if everything else is equal.
    """
    # Imported here, so that recording latencies does not load the kernels.
    from edgead.kernels import isa
    from edgead.kernels import threads as kernel_threads

    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "virtual_machine": _is_virtual(),
        "logical_cores": os.cpu_count(),
        "affinity": affinity,
        "isa": isa() or None,
        "memory_mib": _memory_mib(),
        "os": _os_name(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "onnxruntime": _onnxruntime_version(),
        "threads": {"kernels": kernel_threads(), "opencv": cv2.getNumThreads()},
        "governor": _text(_CPU0 / "cpufreq/scaling_governor"),
        "max_frequency_mhz": _scaled(_CPU0 / "cpufreq/cpuinfo_max_freq", 1e-3),
        "state": {
            "frequency_mhz": _frequency_mhz(),
            "temperature_c": _hottest_c(),
            "throttle_events": _throttle_events(),
            "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        },
    }


def latency_table(latency: dict[str, Latency], *, title: str, caption: str) -> Table:
    """Format latencies in milliseconds as a table for the terminal, one row per stage."""
    from rich.table import Table

    columns = [name for name in Latency.__dataclass_fields__ if name.endswith("_ms")]
    if all(values.p99_9_ms is None for values in latency.values()):
        columns.remove("p99_9_ms")
        caption += "; p99.9 takes 1000 frames"
    # Nine columns must fit into a narrow terminal.
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=None)
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    table.add_column("ms", no_wrap=True)
    for column in columns:
        table.add_column(column.removesuffix("_ms").replace("_", "."), justify="right", no_wrap=True)
    for stage, values in latency.items():
        cells = [getattr(values, column) for column in columns]
        table.add_row(stage, *("-" if cell is None else f"{cell:.2f}" for cell in cells))
    return table


class _Samples:
    def __init__(self, window: int):
        self._window = window
        self._newest = array("d")
        self._n = 0
        self._sum = 0.0
        self._min, self._max = float("inf"), float("-inf")
        self._counts = [0] * (len(BUCKETS_MS) + 1)

    def add(self, ms: float) -> None:
        if self._n < self._window:
            self._newest.append(ms)
        else:
            self._newest[self._n % self._window] = ms
        self._n += 1
        self._sum += ms
        self._counts[bisect_left(BUCKETS_MS, ms)] += 1
        self._min, self._max = min(self._min, ms), max(self._max, ms)

    def summary(self) -> Latency:
        ranks = (50, 90, 95, 99, 99.9)
        # Copied in one step of the interpreter, so that another thread can add samples meanwhile.
        newest = np.frombuffer(self._newest.tobytes())
        p50, p90, p95, p99, p99_9 = map(float, np.percentile(newest, ranks, method="higher"))
        rare = p99_9 if len(newest) >= 1000 else None
        counts = tuple(self._counts)
        return Latency(self._n, self._sum / self._n, self._min, p50, p90, p95, p99, rare, self._max, counts)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _scaled(path: Path, factor: float) -> float | None:
    text = _text(path)
    return float(text) * factor if text and text.lstrip("-").isdigit() else None


def _cpu_info() -> dict[str, str]:
    """Parse the first block of /proc/cpuinfo, and single facts such as `Model` that ARM kernels put at its end."""
    info: dict[str, str] = {}
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        name, _, value = line.partition(":")
        info.setdefault(name.strip(), value.strip())
    return info


def _cpu_model() -> str:
    info = _cpu_info()
    # ARM kernels name no model, but the board does in its device tree, and the core has a number.
    board = _text(Path("/proc/device-tree/model")) or info.get("Model") or info.get("Hardware")
    core = info.get("CPU part") and f"CPU part {info['CPU part']}, implementer {info.get('CPU implementer')}"
    on_arm = " ".join(text for text in (board, core) if text)
    return info.get("model name") or on_arm or platform.processor() or "unknown"


def _is_virtual() -> bool | None:
    info = _cpu_info()
    flags = info.get("flags")
    return "hypervisor" in flags.split() if flags else None


def _frequency_mhz() -> float | None:
    by_kernel = _scaled(_CPU0 / "cpufreq/scaling_cur_freq", 1e-3)
    of_cpu = _cpu_info().get("cpu MHz")  # for virtual machines, which have no cpufreq
    return by_kernel if by_kernel is not None else float(of_cpu) if of_cpu else None


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (AttributeError, ValueError, OSError):
        return None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _onnxruntime_version() -> str | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    return onnxruntime.__version__


def _hottest_c() -> float | None:
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp") if sys.platform == "linux" else ()
    known = [value for zone in zones if (value := _scaled(zone, 1e-3)) is not None]
    return max(known, default=None)


def _throttle_events() -> int | None:
    """Count how often cores were throttled for heat since the start; on a Raspberry Pi, the kinds of throttling."""
    counts = [_scaled(path, 1) for path in _CPU0.parent.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    if counts:
        return int(sum(count or 0 for count in counts))
    flags = _text(Path("/sys/devices/platform/soc/soc:firmware/get_throttled"))
    # Bits 16 to 19: low voltage, frequency capped, throttled, soft temperature limit, each set if it ever occurred.
    return (int(flags, 16) >> 16).bit_count() if flags else None
