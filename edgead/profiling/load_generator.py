"""Latency at the rate of a line: frames arrive by a clock that waits for nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgead.errors import SettingsError


@dataclass(frozen=True)
class Pace:
    """When frames arrive.

    Attributes
    ----------
    rate_hz : float
        Frames a second.
    jitter_ms : float
        Standard deviation by which each arrival is off its place in time; places do not move with it.
    duration_s : float
    deadline_ms : float, optional
        From the arrival to the verdict; by default the time between two frames.
    seed : int
        Of the jitter.
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
        """The deadline, given or not."""
        return self.deadline_ms or 1000 / self.rate_hz

    def arrivals_s(self) -> np.ndarray:
        """Times of arrival in seconds from the start, ascending."""
        places = np.arange(int(self.rate_hz * self.duration_s)) / self.rate_hz
        off = np.random.default_rng(self.seed).normal(0, self.jitter_ms / 1e3, places.size)
        return np.sort(np.maximum(places + off, 0))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that is to be judged: its number, and when it arrived (`time.perf_counter_ns`)."""

    number: int
    at_ns: int


def newest_arrivals(arrivals_s: Sequence[float] | np.ndarray) -> Iterator[Arrival]:
    """Wait for each frame in turn as a camera's mailbox gives it: always the newest one that has arrived.

    The clock goes on while the taker is at work, so a frame that waited has waited in its latency too, and one that a
    newer one replaced is not given; its number is left out.
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
