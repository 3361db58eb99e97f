"""edgead's nearest patches on an NVIDIA GPU, replayed as one CUDA graph: time on the card alone, without torch.

    python -m benchmarks gpu_search

Verifies first: distances and rows must be those of the CPU kernels. Then prints microseconds of a search as JSON: the
median over rounds of launches that follow one another without a pause, as a graph ("whole") and call by call
("called"). Needs the backend "cuda" and cuda-bindings.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgead import kernels
from edgead.errors import SettingsError
from edgead.kernels import cuda
from edgead.kernels.backend import load_cuda
from edgead.runtime.device import Device, open_device

# (patches, dimensions, rows of the bank, neighbours) that the performance model predicts, the third for four images at
# once; and a large one
SIZES = ((784, 384, 10_000, 1), (1600, 168, 10_000, 1), (4 * 784, 384, 10_000, 1), (784, 1536, 10_000, 1))
ROUNDS, LAUNCHES = 21, 100


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu_search", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=3)
    rng = np.random.default_rng(parser.parse_args(arguments).seed)
    try:
        load_cuda()
        device = open_device()
    except SettingsError as error:
        sys.exit(str(error))
    try:
        with device.current():
            print(json.dumps({"nearest {}x{}x{} k{}".format(*size): _search_us(device, size, rng) for size in SIZES}))
    finally:
        device.close()


def _search_us(device: Device, size: tuple[int, int, int, int], rng: np.random.Generator) -> dict[str, Any]:
    patches, d, rows, k = size
    # Variance that falls along the dimensions, off centre, as a network's features have it.
    falling = np.arange(1, d + 1) ** -0.5
    bank, features = ((rng.standard_normal((count, d)) * falling + 0.5).astype(np.float32) for count in (rows, patches))
    given = device.pinned((patches, d), np.float32)
    given[...] = features
    distance, index = device.pinned((patches, k), np.float32), device.pinned((patches, k), np.int32)
    on_device = [device.allocate(array.nbytes) for array in (given, distance, index)]
    target = cuda.Neighbours(*on_device[1:])
    expected, expected_rows = kernels.NearestPatches(bank).search(features, k)
    device.copy_in(on_device[0], given)
    nearest = cuda.NearestPatches(bank)

    def search() -> bool:
        nearest.search(on_device[0], patches, k, target, device.stream)
        return True

    search()
    device.copy_out(distance, on_device[1])
    device.copy_out(index, on_device[2])
    device.wait()
    np.testing.assert_allclose(distance, expected, rtol=2e-7)
    np.testing.assert_array_equal(index, expected_rows)
    graph = device.capture(search)
    try:
        whole_us = _median_us(device, graph.launch if graph else search)
        return {"called us": _median_us(device, search), "whole us": whole_us, "as a graph": int(graph is not None)}
    finally:
        if graph:
            graph.close()


def _median_us(device: Device, run: Callable[[], object]) -> float:
    """Microseconds of one launch."""
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(LAUNCHES):
            run()
        device.wait()
        times.append((time.perf_counter() - begin) / LAUNCHES)
    return 1e6 * statistics.median(times[1:])
