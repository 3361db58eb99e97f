"""The same number of threads for every library, what the machine can do at most, and which versions ran."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import faiss
import numpy as np
import onnxruntime
import threadpoolctl
import torch

from edgead import kernels
from edgead.latency import machine_facts

LIBRARIES = ("numpy", "scipy", "torch", "onnxruntime", "opencv-python", "faiss-cpu")
PEAK_SIDE = 2048
PEAK_TRIES = 8
DISTURBED_CORES = 0.1


def limit_threads(count: int) -> None:
    """Give every library that is imported `count` threads; ONNX Runtime takes it for each session instead."""
    kernels.set_threads(count)
    faiss.omp_set_num_threads(count)
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    threadpoolctl.threadpool_limits(count)  # the BLAS of NumPy, SciPy and faiss; stays set when not used as a context


def describe() -> dict[str, Any]:
    """Machine facts, library versions and thread counts."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    pools = [
        {"library": pool["internal_api"], "version": pool["version"], "threads": pool["num_threads"]}
        for pool in threadpoolctl.threadpool_info()
    ]
    return {"machine": machine_facts(), "libraries": {**versions, "thread_pools": pools}}


class OtherLoad:
    """How many cores other processes have used since this was made; 0 is a machine that is ours alone."""

    def __init__(self) -> None:
        self._start = self._clocks()

    def cores(self) -> float | None:
        """None where the system does not tell."""
        if self._start is None or (now := self._clocks()) is None:
            return None
        wall, busy, own = (after - before for after, before in zip(now, self._start, strict=True))
        return max(0.0, (busy - own) / wall) if wall > 0 else 0.0

    def warning(self) -> str:
        """What to print behind a time that cannot be trusted, else nothing."""
        cores = self.cores()
        disturbed = cores is not None and cores > DISTURBED_CORES
        return f"; other processes used {cores:.2f} cores meanwhile: measure it again" if disturbed else ""

    @staticmethod
    def _clocks() -> tuple[float, float, float] | None:
        """Seconds of wall time, of all cores in use (or taken by a hypervisor), and of this process."""
        stat = Path("/proc/stat")
        if not stat.is_file():
            return None
        user, nice, system, _, _, irq, soft, steal = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
        busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
        own = os.times()
        return time.perf_counter(), busy, own.user + own.system


def measure_peaks(threads: int) -> dict[str, float]:
    """Billions of operations a second in the best of several large matrix products, by the best library."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((PEAK_SIDE, PEAK_SIDE), dtype=np.float32)
    a_torch = torch.from_numpy(a)
    small = torch.randint(-127, 128, (PEAK_SIDE, PEAK_SIDE), dtype=torch.int8)
    floats = {"numpy": lambda: a @ a, "torch": lambda: a_torch @ a_torch}
    integers = {"torch": lambda: torch._int_mm(small, small), "onnxruntime": _integer_product(small.numpy(), threads)}
    return {
        "fp32_gflop_s": max(_best_rate(call) for call in floats.values()),
        "int8_gop_s": max(_best_rate(call) for call in integers.values()),
    }


def _best_rate(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(PEAK_TRIES):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return 2 * PEAK_SIDE**3 / best / 1e9


def _integer_product(values: np.ndarray, threads: int) -> Callable[[], object]:
    from onnx import TensorProto, helper, numpy_helper

    # uint8 x int8 is what the VNNI instructions take.
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, values.shape)],
        [helper.make_tensor_value_info("c", TensorProto.INT32, values.shape)],
        [numpy_helper.from_array(values, "b")],
    )
    session = open_session(graph, threads)
    a = values.view(np.uint8)
    return lambda: session.run(None, {"a": a})


def open_session(graph: Any, threads: int) -> onnxruntime.InferenceSession:
    """Open an ONNX graph on the CPU with `threads` threads and otherwise ONNX Runtime's defaults."""
    from onnx import helper

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
