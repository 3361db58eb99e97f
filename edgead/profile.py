"""Latency profiling: how long the detector takes on this machine, on real images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.errors import SettingsError
from edgead.images import as_bgr
from edgead.latency import Latency, LatencyRecorder, latency_table, machine_facts

if TYPE_CHECKING:
    from rich.table import Table

    from edgead.detector import Detector


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """Result of `profile`.

    Attributes
    ----------
    n, warmup : int
        Measured frames, and frames between the cold start and them, not counted.
    cold_start_ms : float
        The first prediction; only cold if the detector has predicted nothing before.
    fps : float or None
        Frames per second when one follows the other, reading excluded.
    image_sizes : list of (height, width)
        Of the images that were used.
    latency : dict of Latency
        Per stage; `total` is the whole call of `Detector.predict`.
    machine : dict
        See `edgead.latency.machine_facts`; taken after the run, so `state` shows the loaded machine.
    """

    n: int
    warmup: int
    cold_start_ms: float
    fps: float | None
    image_sizes: list[tuple[int, int]]
    latency: dict[str, Latency]
    machine: dict[str, Any]

    def to_dict(self) -> dict:
        return asdict(self)

    def table(self) -> Table:
        """Lay the report out for a terminal."""
        sizes = ", ".join(f"{height} x {width}" for height, width in self.image_sizes[:3])
        more = ", ..." if len(self.image_sizes) > 3 else ""
        rate = "unknown" if self.fps is None else f"{self.fps:.1f}"
        return latency_table(
            self.latency,
            title=f"latency of {self.n} frames, {sizes}{more} px",
            caption=f"{rate} frames/s; cold start {self.cold_start_ms:.1f} ms; {self.machine['cpu']},"
            f" {self.machine['logical_cores']} cores, {self.machine['isa'] or 'no native kernels'}",
        )


def profile(detector: Detector, images: Sequence[np.ndarray], *, warmup: int = 20, n: int = 300) -> ProfileReport:
    """Measure the detector with one image after the other, as fast as it can.

    Parameters
    ----------
    detector : Detector
        Freshly loaded, for a meaningful cold start.
    images : sequence of ndarray of shape (H, W, 3), uint8, BGR
        Real images of the part, used in turn; at least one.
    warmup : int
        Predictions between the cold start and the measurement, not counted.
    n : int
        Measured predictions; 1000 or more for a p99.9.
    """
    images = [as_bgr(image) for image in images]
    if not images:
        raise SettingsError("profiling needs at least one image")
    if warmup < 0 or n < 1:
        raise SettingsError(f"n must be at least 1 and warmup at least 0, found {n} and {warmup}")
    begin_ns = time.perf_counter_ns()
    detector.predict(images[0])
    cold_start_ms = (time.perf_counter_ns() - begin_ns) / 1e6
    for i in range(warmup):
        detector.predict(images[i % len(images)])
    recorder = LatencyRecorder(window=n)
    for i in range(n):
        begin_ns = time.perf_counter_ns()
        verdict = detector.predict(images[i % len(images)])
        finished_ns = time.perf_counter_ns()
        total_ms = (finished_ns - begin_ns) / 1e6
        recorder.add_frame(verdict.stage_times, total_ms=total_ms, finished_ns=finished_ns)
    sizes = sorted({image.shape[:2] for image in images})
    latency = recorder.summary()
    return ProfileReport(n, warmup, cold_start_ms, recorder.fps, sizes, latency, machine_facts())
