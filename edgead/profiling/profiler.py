"""Latency profiling of a detector on this machine and real images, one after the other or at a fixed pace.

At a pace, frames arrive by the clock, whether the detector is ready or not, as on a production line.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.errors import SettingsError
from edgead.files.table import write_csv
from edgead.process.memory import peak_memory_mib
from edgead.profiling.contention import OtherLoad, OtherUse, describe_use
from edgead.profiling.latency import Latency, LatencyRecorder, latency_table, machine_facts
from edgead.types import StageTimes
from edgead.version import __version__

if TYPE_CHECKING:
    from rich.table import Table

    from edgead.detector import Detector


@dataclass(frozen=True)
class Pace:
    """Arrival of frames at a fixed rate with jitter.

    `rate_hz`: frames a second.
    `jitter_ms`: standard deviation of each arrival around its nominal time; deviations do not add up.
    `deadline_ms`: allowed time from the arrival to the verdict; by default the time between two frames.
    `seed`: seed of the jitter.
    """

    rate_hz: float
    jitter_ms: float = 0.0
    duration_s: float = 60.0
    deadline_ms: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.rate_hz <= 10_000 and self.duration_s > 0 and self.jitter_ms >= 0):
            raise SettingsError("a pace needs a rate from 0 to 10,000 Hz, a duration above 0 and a jitter of 0 or more")
        if self.rate_hz * self.duration_s < 1:
            raise SettingsError(f"no frame arrives within {self.duration_s:g} s at {self.rate_hz:g} Hz: measure longer")

    @property
    def limit_ms(self) -> float:
        """Deadline in ms, by default the time between two frames."""
        return self.deadline_ms or 1000 / self.rate_hz

    def arrivals_s(self) -> np.ndarray:
        """Compute the times of arrival in seconds from the start, ascending."""
        places = np.arange(int(self.rate_hz * self.duration_s)) / self.rate_hz
        off = np.random.default_rng(self.seed).normal(0, self.jitter_ms / 1e3, places.size)
        return np.sort(np.maximum(places + off, 0))


@dataclass(frozen=True, slots=True)
class Arrival:
    """Arrival of a frame: its number and its time (`time.perf_counter_ns`)."""

    number: int
    at_ns: int


def newest_arrivals(arrivals_s: Sequence[float] | np.ndarray) -> Iterator[Arrival]:
    """Yield arrivals like a camera's mailbox: wait for the next frame, and always return the newest that has arrived.

    The clock runs on while the caller works, so that waiting counts as latency. A frame that a newer one replaced is
    skipped, with its number.
    """
    begin_ns = time.perf_counter_ns()
    times_ns = begin_ns + (np.asarray(arrivals_s) * 1e9).astype(np.int64)
    number = 0
    while number < times_ns.size:
        wait_s = (int(times_ns[number]) - time.perf_counter_ns()) / 1e9
        if wait_s > 0:
            time.sleep(wait_s)
        arrived = int(np.searchsorted(times_ns, time.perf_counter_ns(), side="right"))
        number = max(number, arrived - 1)
        yield Arrival(number, int(times_ns[number]))
        number += 1


@dataclass(frozen=True, slots=True)
class Sample:
    """Measured frame: its number, its arrival in seconds after the first, its times in milliseconds."""

    number: int
    arrived_s: float
    times: StageTimes
    total_ms: float


@dataclass(frozen=True, slots=True)
class ArrivalCounts:
    """Counts of the frames that arrived at a pace.

    `arrived`, `dropped`: number of all frames, and of those that a newer one replaced before the detector was free.
    `late`: number of frames judged after the deadline. Dropped frames missed it too, but are not included.
    """

    rate_hz: float
    jitter_ms: float
    duration_s: float
    deadline_ms: float
    arrived: int
    dropped: int
    late: int


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """Result of `profile`.

    `n`, `warmup`: number of measured frames, and of frames before them, after the cold start, that do not count.
    `cold_start_ms`: time of the first prediction; only cold if the detector is freshly loaded.
    `fps`: frames per second when one follows the other, reading excluded.
    `image_sizes` (list of (height, width)): sizes of the images used.
    `latency`: latency by stage; `total` is the whole call of `Detector.predict`, or at a pace the time from arrival to
        verdict, which includes the wait `age` for the detector.
    `arrivals`: none without a pace.
    `cpu_share`: processor time over wall time during the measurement; 2 means two full cores.
    `peak_memory_mib`: peak memory of this process since its start.
    `other_use`: load from other processes and the hypervisor during the measurement; None if unknown.
    `throttle_events`: number of times that a core was throttled during the measurement; None if unknown.
    `launches`: description of a GPU's launch of a frame; empty on a CPU.
    `machine`: result of `edgead.profiling.latency.machine_facts` after the run, so that `state` shows the loaded
        machine.
    `samples`: every measured frame, in the order of time; not in `to_dict`.
    """

    n: int
    warmup: int
    cold_start_ms: float
    fps: float | None
    image_sizes: list[tuple[int, int]]
    latency: dict[str, Latency]
    arrivals: ArrivalCounts | None
    cpu_share: float
    peak_memory_mib: int | None
    other_use: OtherUse | None
    throttle_events: int | None
    launches: str
    machine: dict[str, Any]
    samples: list[Sample]

    def to_dict(self) -> dict:
        return {key: value for key, value in asdict(self).items() if key != "samples"}

    def write_samples(self, path: Path) -> None:
        """Write a CSV file with one line per frame: number, arrived_s, milliseconds per stage, total_ms."""
        stages = [name for name in StageTimes.__dataclass_fields__ if name != "sink_ms"]
        rows = ({**asdict(one), **asdict(one.times), "arrived_s": f"{one.arrived_s:.6f}"} for one in self.samples)
        write_csv(path, ["number", "arrived_s", *stages, "total_ms"], rows)

    def table(self) -> Table:
        """Format the report as a table for the terminal."""
        sizes = ", ".join(f"{width} x {height}" for height, width in self.image_sizes[:3])
        more = ", ..." if len(self.image_sizes) > 3 else ""
        return latency_table(
            self.latency, title=f"latency of {self.n} frames, {sizes}{more} px", caption=self.summary()
        )

    def summary(self) -> str:
        """Summarise in one sentence what was measured on which machine."""
        throttled = f"; slowed down {self.throttle_events} times" if self.throttle_events else ""
        launched = f"; launched {self.launches}" if self.launches else ""
        return (
            f"{self._pace()}; cold start {self.cold_start_ms:.1f} ms; {self.cpu_share:.2f} cores in use,"
            f" {self.peak_memory_mib} MiB{describe_use(self.other_use)}{throttled}{launched}; {self.machine['cpu']},"
            f" {self.machine['logical_cores']} cores, {self.machine['isa'] or 'numpy instead of the compiled kernels'}"
        )

    def shared_row(self, model: str) -> str:
        """Format the run as a Markdown row for the documentation's table of boards.

        The row names no folder, host or person.

        `model`: description of the model, such as "patchcore at 224 x 224 px, int8, onnxruntime".
        """
        machine, total = self.machine, self.latency["total"]
        virtual = ", virtual" if machine["virtual_machine"] else ""
        sizes = ", ".join(f"{width} x {height}" for height, width in self.image_sizes)
        cells = (
            f"{machine['cpu']}, {machine['logical_cores']} cores{virtual}, {machine['isa'] or 'no compiled kernels'}",
            f"{model}, {machine['threads']['kernels']} threads; images of {sizes} px",
            f"{total.p50_ms:.1f}",
            f"{total.p99_ms:.1f}",
            f"{__version__}, {date.today()}; {self._pace()}{describe_use(self.other_use)}",
        )
        return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"

    def _pace(self) -> str:
        pace = self.arrivals
        if pace is None:
            return "unknown rate" if self.fps is None else f"{self.fps:.1f} frames/s"
        missed = pace.late + pace.dropped
        return (
            f"{pace.arrived} arrived at {pace.rate_hz:g} a second; {missed} not judged within {pace.deadline_ms:g} ms,"
            f" of them {pace.dropped} dropped"
        )


def profile(
    detector: Detector, images: Sequence[np.ndarray], *, warmup: int = 20, n: int = 300, pace: Pace | None = None
) -> ProfileReport:
    """Measure a detector's latency on images one after the other, without pause or at a pace.

    `detector`: detector, freshly loaded for a meaningful cold start.
    `images` (sequence of ndarray of shape (H, W, 3), uint8, BGR): at least one real image of the part; they are used in
        turn.
    `warmup`: number of predictions between the cold start and the measurement, which do not count.
    `n`: number of measured predictions without a pace; at least 1000 for a p99.9.
    `pace`: arrival of frames; latency is counted from the arrival, even while the detector is busy.
    """
    images = list(images)
    if not images:
        raise SettingsError("profiling needs at least one image")
    if warmup < 0 or n < 1:
        raise SettingsError(f"n must be at least 1 and warmup at least 0, found {n} and {warmup}")
    begin_ns = time.perf_counter_ns()
    detector.predict(images[0])
    cold_start_ms = (time.perf_counter_ns() - begin_ns) / 1e6
    for i in range(warmup):
        detector.predict(images[i % len(images)])
    throttled = machine_facts()["state"]["throttle_events"]
    others = OtherLoad()
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    samples = _paced(detector, images, pace) if pace else _free(detector, images, n)
    cpu_share = (time.process_time() - begin_cpu_s) / (time.perf_counter() - begin_s)
    other_use = others.use()
    machine = machine_facts()
    recorder = LatencyRecorder(window=len(samples))
    for sample in samples:
        finished_ns = int(sample.arrived_s * 1e9 + sample.total_ms * 1e6)
        recorder.add_frame(sample.times, total_ms=sample.total_ms, finished_ns=finished_ns)
    return ProfileReport(
        n=len(samples),
        warmup=warmup,
        cold_start_ms=cold_start_ms,
        fps=recorder.fps,
        image_sizes=sorted({image.shape[:2] for image in images}),
        latency=recorder.summary(),
        arrivals=_arrivals(pace, samples) if pace else None,
        cpu_share=cpu_share,
        peak_memory_mib=peak_memory_mib(),
        other_use=other_use,
        throttle_events=None if throttled is None else machine["state"]["throttle_events"] - throttled,
        launches=detector.launches,
        machine=machine,
        samples=samples,
    )


def _free(detector: Detector, images: Sequence[np.ndarray], n: int) -> list[Sample]:
    samples = []
    first_ns = time.perf_counter_ns()
    for i in range(n):
        begin_ns = time.perf_counter_ns()
        verdict = detector.predict(images[i % len(images)])
        total_ms = (time.perf_counter_ns() - begin_ns) / 1e6
        samples.append(Sample(i, (begin_ns - first_ns) / 1e9, verdict.stage_times, total_ms))
    return samples


def _paced(detector: Detector, images: Sequence[np.ndarray], pace: Pace) -> list[Sample]:
    samples = []
    first_ns: int | None = None
    for arrival in newest_arrivals(pace.arrivals_s()):
        begin_ns = time.perf_counter_ns()
        verdict = detector.predict(images[arrival.number % len(images)])
        total_ms = (time.perf_counter_ns() - arrival.at_ns) / 1e6
        first_ns = arrival.at_ns if first_ns is None else first_ns
        times = replace(verdict.stage_times, age_ms=(begin_ns - arrival.at_ns) / 1e6)
        samples.append(Sample(arrival.number, (arrival.at_ns - first_ns) / 1e9, times, total_ms))
    return samples


def _arrivals(pace: Pace, samples: Sequence[Sample]) -> ArrivalCounts:
    sent = int(pace.rate_hz * pace.duration_s)
    late = sum(sample.total_ms > pace.limit_ms for sample in samples)
    return ArrivalCounts(pace.rate_hz, pace.jitter_ms, pace.duration_s, pace.limit_ms, sent, sent - len(samples), late)
