"""edgead's nearest patches and smoothing on an NVIDIA GPU against torch on the same card, for arrays that are on it.

    python -m benchmarks cuda --json cuda.json

Verifies first: distances and rows must be those of the CPU kernels. Then times, interleaved, with CUDA events: the
median of the time from the first kernel to the last, as the call launches them and as a graph replays them; and each
kernel's mean. Needs the backend "cuda" and torch with CUDA; `gpu_search` needs no torch.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgead import kernels
from edgead.errors import SettingsError
from edgead.kernels import cuda
from edgead.kernels.backend import load_cuda
from edgead.profiling.latency import machine_facts

# (patches, dimensions, rows of the bank, neighbours)
SIZES = (
    (784, 152, 10_000, 1), (784, 384, 1_000, 1), (784, 384, 10_000, 1), (784, 384, 10_000, 9), (784, 1024, 10_000, 1),
    (784, 1536, 10_000, 1), (784, 384, 50_000, 1), (1600, 168, 10_000, 1), (12_544, 384, 50_000, 1),
)  # fmt: skip
MAPS = (((28, 28), (256, 256)), ((40, 40), (320, 320)), ((64, 64), (1024, 1024)))
SIGMA = 4.0
WARM_UP, REPEATS = 20, 200

Run = Callable[[], object]
Found = Callable[[], tuple[torch.Tensor, torch.Tensor]]  # like a search: distances (less |q|), rows


def main(arguments: list[str]) -> None:
    """Print a line per size, and write everything as JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cuda", description=__doc__)
    parser.add_argument("--json", type=Path, help="file for all results with the facts of card and machine")
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args(arguments)
    try:
        load_cuda()
    except SettingsError as error:
        sys.exit(str(error))
    if not torch.cuda.is_available():
        sys.exit("this torch has no CUDA: install one that has, to compare with")

    card = _card()
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in card["rates"].items())
    print(f"{card['name']}, as measured: {rates}")
    rng = np.random.default_rng(options.seed)
    nearest = [_nearest(size, rng, card) for size in SIZES]
    maps = [_map(*size, rng) for size in MAPS]
    # Last, as what watches kernels may slow down what comes after it.
    results = {"nearest": [result | {"kernels_us": _kernels_us(search)} for result, search in nearest], "maps": maps}
    if options.json:
        facts = {"card": card, "machine": machine_facts(), "torch": torch.__version__}
        options.json.write_text(json.dumps(facts | results, indent=1))


def _card() -> dict[str, Any]:
    """What the card is, and what it reaches in a large product of halves and a large copy."""
    properties = torch.cuda.get_device_properties(0)
    left, right = (torch.randn(8192, 8192, device="cuda") for _ in range(2))
    source = torch.empty(1 << 28, device="cuda")  # 1 GiB: far more than any cache
    target = torch.empty_like(source)
    products = _products(left, right)
    copy_ms, *products_ms = _medians([lambda: target.copy_(source), *products.values()])
    rates = {f"{kind} T(FL)OP/s": 2 * 8192**3 / ms / 1e9 for kind, ms in zip(products, products_ms, strict=True)}
    return {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_mib": properties.total_memory >> 20,
        "cuda_of_torch": torch.version.cuda,
        "rates": {**rates, "copy GB/s": 2 * source.nbytes / copy_ms / 1e6},
    }


def _products(left: torch.Tensor, right: torch.Tensor) -> dict[str, Run]:
    """left @ right.T as the card's library multiplies, in every precision that a search could use."""
    halves = left.half(), right.half().T
    codes = [(tensor * 20).clamp(-127, 127).to(torch.int8) for tensor in (left, right)]
    return {
        "float32": lambda: _multiply(left, right.T, tf32=False),
        "tf32": lambda: _multiply(left, right.T, tf32=True),
        "half": lambda: halves[0] @ halves[1],
        "int8": lambda: torch._int_mm(codes[0], codes[1].T),
    }


def _multiply(left: torch.Tensor, right: torch.Tensor, *, tf32: bool) -> torch.Tensor:
    torch.backends.cuda.matmul.allow_tf32 = tf32
    return left @ right


def _nearest(
    size: tuple[int, int, int, int], rng: np.random.Generator, card: dict[str, Any]
) -> tuple[dict[str, Any], Run]:
    patches, d, rows, k = size
    bank, features = _features(rng, rows, d), _features(rng, patches, d)
    on_device = torch.from_numpy(features).cuda()
    distance = torch.empty((patches, k), device="cuda")
    index = torch.empty((patches, k), device="cuda", dtype=torch.int32)
    target = cuda.Neighbours(distance.data_ptr(), index.data_ptr())
    nearest = cuda.NearestPatches(bank)

    def search() -> tuple[torch.Tensor, torch.Tensor]:
        nearest.search(on_device.data_ptr(), patches, k, target, torch.cuda.current_stream().cuda_stream)
        return distance, index  # so that their memory stays as long as this function

    expected, expected_rows = kernels.NearestPatches(bank).search(features, k)
    graph = _captured(search)
    for run in (search, graph.replay):
        index.fill_(-1)
        run()
        torch.cuda.synchronize()
        np.testing.assert_allclose(distance.cpu().numpy(), expected, rtol=2e-7)
        np.testing.assert_array_equal(index.cpu().numpy(), expected_rows)

    bank_there = torch.from_numpy(bank).cuda()
    opponents, products = _torch_searches(bank_there, on_device, k), _products(on_device, bank_there)
    ms, graph_ms, *others = _medians([search, graph.replay, *opponents.values(), *products.values()])
    # What must move: the bank as halves, and the features.
    moved = 2 * rows * d + 4 * patches * d
    result = {
        "patches": patches, "d": d, "rows": rows, "k": k, "edgead_ms": ms, "graph_ms": graph_ms,
        "share_of_matrix_rate": 2 * patches * rows * d / (ms * 1e9 * card["rates"]["half T(FL)OP/s"]),
        "share_of_copy_rate": moved / (ms * 1e6 * card["rates"]["copy GB/s"]),
        "products_ms": dict(zip(products, others[len(opponents) :], strict=True)),
        "torch": {
            name: {"ms": other, "same_row": float((found()[1].cpu().numpy() == expected_rows).mean())}
            for (name, found), other in zip(opponents.items(), others, strict=False)
        },
    }  # fmt: skip
    compared = ", ".join(f"{name} {r['ms']:.3f} ({r['same_row']:.1%} same)" for name, r in result["torch"].items())
    of_matrix, of_copy = result["share_of_matrix_rate"], result["share_of_copy_rate"]
    print(
        f"{patches} x {d} in {rows}, k={k}: edgead {ms:.3f} ms called, {graph_ms:.3f} as a graph"
        f" ({of_matrix:.0%} of the matrix rate, {of_copy:.0%} of the copy rate); torch {compared}",
        flush=True,
    )
    return result, search


def _captured(run: Run) -> torch.cuda.CUDAGraph:
    run()  # what is allocated and loaded cannot be captured
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def _kernels_us(run: Run) -> dict[str, float]:
    """Mean microseconds of each kernel that `run` launches, such as "products" of products_kernel."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(REPEATS):
            run()
        torch.cuda.synchronize()
    events = ((re.search(r"([a-z0-9]+)_kernel\b", event.key), event) for event in profiler.key_averages())
    return {name[1]: event.self_device_time_total / event.count for name, event in events if name}


def _torch_searches(bank: torch.Tensor, features: torch.Tensor, k: int) -> dict[str, Found]:
    """Matrix product, then the k smallest: in float32, in TF32, and in halves. The bank's norms are prepared."""
    half_norms = (bank * bank).sum(1) / 2
    halves = bank.half()

    def search(tf32: bool) -> tuple[torch.Tensor, torch.Tensor]:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        return torch.addmm(half_norms, features, bank.T, alpha=-1).topk(k, largest=False)

    def search_halves() -> tuple[torch.Tensor, torch.Tensor]:
        return (half_norms - (features.half() @ halves.T).float()).topk(k, largest=False)

    return {"float32": lambda: search(False), "tf32": lambda: search(True), "half": search_halves}


def _map(shape: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> dict[str, Any]:
    scores = rng.random(shape, dtype=np.float32)
    on_device = torch.from_numpy(scores).cuda()
    target, maximum = torch.empty(size, device="cuda"), torch.empty(1, device="cuda")
    smoother = cuda.Smoother(shape, size, SIGMA)

    def smooth() -> None:
        stream = torch.cuda.current_stream().cuda_stream
        smoother(on_device.data_ptr(), target.data_ptr(), maximum.data_ptr(), stream)

    taps = torch.exp(-0.5 * (torch.arange(-16, 17, device="cuda") / SIGMA) ** 2)
    taps = (taps / taps.sum()).reshape(1, 1, 1, -1)

    def smooth_in_torch() -> torch.Tensor:
        resized = torch.nn.functional.interpolate(on_device[None, None], size, mode="bilinear")
        padded = torch.nn.functional.pad(resized, (16, 16, 16, 16), mode="replicate")
        blurred = torch.nn.functional.conv2d(torch.nn.functional.conv2d(padded, taps), taps.mT)
        return blurred.amax()

    smooth()
    torch.cuda.synchronize()
    expected, expected_maximum = kernels.smooth(scores, size, SIGMA)
    np.testing.assert_allclose(target.cpu().numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(maximum.item(), expected_maximum, atol=2e-6)
    ms, torch_ms = _medians([smooth, smooth_in_torch])
    print(f"map {shape} to {size}: edgead {1e3 * ms:.1f} us; torch {1e3 * torch_ms:.1f} us", flush=True)
    return {"shape": shape, "size": size, "sigma": SIGMA, "edgead_ms": ms, "torch_ms": torch_ms}


def _features(rng: np.random.Generator, rows: int, d: int) -> np.ndarray:
    """Rows whose variance falls along the dimensions, off centre, as a network's features are."""
    return (rng.standard_normal((rows, d)) * np.arange(1, d + 1) ** -0.5 + 0.5).astype(np.float32)


def _medians(runs: Sequence[Run]) -> list[float]:
    """Time the runs in turn, so that a card that slows down does it to all; milliseconds."""
    for run in [*runs] * WARM_UP:
        run()
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(REPEATS):
        for run, of_run in zip(runs, times, strict=True):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            of_run.append(begin.elapsed_time(end))
    return [statistics.median(of_run) for of_run in times]
