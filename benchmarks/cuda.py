"""edgead's nearest patches and smoothing on an NVIDIA GPU against torch on the same card, for arrays that are on it.

    python -m benchmarks cuda --json cuda.json

Verifies first: distances and rows must be those of the CPU kernels. Then times, interleaved, with CUDA events: the
median of the time from the first kernel to the last. Needs the backend "cuda" and torch with CUDA.
"""

from __future__ import annotations

import argparse
import json
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
    print(f"{card['name']}: half {card['matrix_tflops']:.0f} TFLOP/s, copy {card['copy_gb_s']:.0f} GB/s, as measured")
    rng = np.random.default_rng(options.seed)
    results = {"nearest": [_nearest(size, rng, card) for size in SIZES], "maps": [_map(*size, rng) for size in MAPS]}
    if options.json:
        facts = {"card": card, "machine": machine_facts(), "torch": torch.__version__}
        options.json.write_text(json.dumps(facts | results, indent=1))


def _card() -> dict[str, Any]:
    """What the card is, and what it reaches in a large product of halves and a large copy."""
    properties = torch.cuda.get_device_properties(0)
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(1 << 28, device="cuda")  # 1 GiB: far more than any cache
    target = torch.empty_like(source)
    product_ms, copy_ms = _medians([lambda: left @ right, lambda: target.copy_(source)])
    return {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_mib": properties.total_memory >> 20,
        "cuda_of_torch": torch.version.cuda,
        "matrix_tflops": 2 * 8192**3 / product_ms / 1e9,
        "copy_gb_s": 2 * source.nbytes / copy_ms / 1e6,
    }


def _nearest(size: tuple[int, int, int, int], rng: np.random.Generator, card: dict[str, Any]) -> dict[str, Any]:
    patches, d, rows, k = size
    bank, features = _features(rng, rows, d), _features(rng, patches, d)
    on_device = torch.from_numpy(features).cuda()
    distance = torch.empty((patches, k), device="cuda")
    index = torch.empty((patches, k), device="cuda", dtype=torch.int32)
    target = cuda.Neighbours(distance.data_ptr(), index.data_ptr())
    nearest = cuda.NearestPatches(bank)

    def search() -> None:
        nearest.search(on_device.data_ptr(), patches, k, target, torch.cuda.current_stream().cuda_stream)

    search()
    torch.cuda.synchronize()
    expected, expected_rows = kernels.NearestPatches(bank).search(features, k)
    np.testing.assert_allclose(distance.cpu().numpy(), expected, rtol=2e-7)
    np.testing.assert_array_equal(index.cpu().numpy(), expected_rows)

    opponents = _torch_searches(torch.from_numpy(bank).cuda(), on_device, k)
    ms, *others = _medians([search, *opponents.values()])
    # What must move: the bank as halves, the features, and the minima of groups, written and read.
    moved = 2 * rows * d + 4 * patches * d + 2 * patches * rows / 2
    result = {
        "patches": patches, "d": d, "rows": rows, "k": k, "edgead_ms": ms,
        "share_of_matrix_rate": 2 * patches * rows * d / (ms * 1e9 * card["matrix_tflops"]),
        "share_of_copy_rate": moved / (ms * 1e6 * card["copy_gb_s"]),
        "torch": {
            name: {"ms": other, "same_row": float((found()[1].cpu().numpy() == expected_rows).mean())}
            for (name, found), other in zip(opponents.items(), others, strict=True)
        },
    }  # fmt: skip
    compared = ", ".join(f"{name} {r['ms']:.3f} ({r['same_row']:.1%} same)" for name, r in result["torch"].items())
    of_matrix, of_copy = result["share_of_matrix_rate"], result["share_of_copy_rate"]
    print(
        f"{patches} x {d} in {rows}, k={k}: edgead {ms:.3f} ms"
        f" ({of_matrix:.0%} of the matrix rate, {of_copy:.0%} of the copy rate); torch {compared}",
        flush=True,
    )
    return result


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
