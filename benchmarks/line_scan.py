"""Strips of a line-scan camera joined to frames: time for each strip, beside a plain copy of it.

    python -m benchmarks line_scan

Strips of 4,096 x 64 pixels, frames of 1,024 lines that overlap by 128.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np

from edgead.sources.line_scan import Joiner, LineScan

WIDTH, HEIGHT = 4096, 64
SETTINGS = LineScan(lines=1024, overlap=128)
KINDS = {"8 bits": ((), np.uint8), "16 bits": ((), np.uint16), "colour": ((3,), np.uint8)}
STRIPS = 8  # that come in turns, so that none lies in the fastest cache


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1400, help="strips of each kind")
    rounds = parser.parse_args(arguments).rounds
    print(
        "| strips | mean us a strip | p50 | p99 | plain copy, mean us | p50 | lines/s |\n|---|---|---|---|---|---|---|"
    )
    for name, (channels, kind) in KINDS.items():
        rng = np.random.default_rng(0)
        strips = [rng.integers(0, 200, (HEIGHT, WIDTH, *channels), kind) for _ in range(STRIPS)]
        joiner, copied = Joiner("line", SETTINGS), np.empty_like(strips[0])

        def join(strip: np.ndarray, joiner: Joiner = joiner) -> None:
            joiner.add({"image": strip})

        def copy(strip: np.ndarray, copied: np.ndarray = copied) -> None:
            copied[...] = strip

        joining, copying = (_times_us(step, strips, rounds) for step in (join, copy))
        p50, p99 = np.percentile(joining, (50, 99))
        print(
            f"| {name} | {joining.mean():.0f} | {p50:.0f} | {p99:.0f} | {copying.mean():.0f} | "
            f"{np.median(copying):.0f} | {HEIGHT / joining.mean() * 1e6:,.0f} |"
        )


def _times_us(step: Callable[[np.ndarray], None], strips: Sequence[np.ndarray], rounds: int) -> np.ndarray:
    times = np.empty(rounds)
    for number in range(rounds):
        begin_ns = time.perf_counter_ns()
        step(strips[number % len(strips)])
        times[number] = (time.perf_counter_ns() - begin_ns) / 1e3
    return times
