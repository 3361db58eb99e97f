"""What the machine itself adds to a latency: a thread on each core multiplies matrices at the rate of a line.

`python -m benchmarks.bare_loop`, which `benchmarks.realtime` starts between its rounds. Where two virtual cores share
one physical core at times, as they may in a virtual machine, float products take up to twice their time then, and no
priority helps. A target for p99.9 over p50 below that of this loop is one for another machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from benchmarks.soak import WARM_UP_FRAMES, percentiles
from edgead.process.real_time import set_affinity, set_fifo

_SIZE = 256
"""Of the matrices: three of them fit the second cache of any core."""


def bare_latency(minutes: float, rate: float, priority: int | None) -> dict[str, float]:
    """Run the loop in a process of its own, with one thread of BLAS on each core.

    Parameters
    ----------
    minutes : float
    rate : float
        Frames a second.
    priority : int, optional
        Of SCHED_FIFO.

    Returns
    -------
    dict of float
        Milliseconds, as those of `benchmarks.soak.percentiles`.
    """
    numbers = [f"--minutes={minutes}", f"--rate={rate}", *([f"--priority={priority}"] if priority else ())]
    command = [sys.executable, "-m", "benchmarks.bare_loop", *numbers]
    ended = subprocess.run(
        command, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(ended.stdout)


def _loop(minutes: float, rate: float, priority: int | None, busy_ms: float) -> np.ndarray:
    """Milliseconds of each frame, from the clock's tick to the end of the slower thread."""
    matrix = np.random.default_rng(0).random((_SIZE, _SIZE), np.float32)
    threads = [_thread(core, priority) for core in sorted(os.sched_getaffinity(0))]
    each_s = min(threads[0].submit(_multiply, matrix, 20).result() for _ in range(WARM_UP_FRAMES)) / 20
    times = max(1, round(busy_ms / 1e3 / each_s))
    frames = []
    begin_s = time.perf_counter()
    for number in range(int(minutes * 60 * rate)):
        at_s = begin_s + number / rate
        time.sleep(max(0.0, at_s - time.perf_counter()))
        wait([thread.submit(_multiply, matrix, times) for thread in threads])
        frames.append((time.perf_counter() - at_s) * 1e3)
    return np.array(frames[WARM_UP_FRAMES:])


def _thread(core: int, priority: int | None) -> ThreadPoolExecutor:
    def schedule() -> None:
        set_affinity([core])
        if priority:
            set_fifo(priority)

    return ThreadPoolExecutor(1, initializer=schedule)


def _multiply(matrix: np.ndarray, times: int) -> float:
    begin_s = time.perf_counter()
    product = np.empty_like(matrix)
    for _ in range(times):
        np.matmul(matrix, matrix, out=product)
    return time.perf_counter() - begin_s


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--priority", type=int)
    parser.add_argument("--busy-ms", type=float, default=35.0, help="of a frame, on a core of its own")
    options = parser.parse_args()
    if options.priority:
        set_fifo(options.priority)  # the thread that waits for the clock, too
    print(json.dumps(percentiles(_loop(options.minutes, options.rate, options.priority, options.busy_ms))))
