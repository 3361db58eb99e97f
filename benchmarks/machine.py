"""The same number of threads for every library, what the machine can do at most, and which versions ran."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

import cv2
import faiss
import numpy as np
import onnxruntime
import threadpoolctl
import torch

from edgead import kernels
from edgead.profiling.contention import OtherUse, describe_use
from edgead.profiling.latency import machine_facts

LIBRARIES = ("numpy", "scipy", "torch", "onnxruntime", "faiss-cpu")
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
    # OpenCV comes from any of several distributions.
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES} | {"opencv": cv2.__version__}
    pools = [
        {"library": pool["internal_api"], "version": pool["version"], "threads": pool["num_threads"]}
        for pool in threadpoolctl.threadpool_info()
    ]
    return {"machine": machine_facts(), "libraries": {**versions, "thread_pools": pools}}


def disturbance(use: OtherUse | None) -> str:
    """What to print behind a time that cannot be trusted, else nothing."""
    disturbed = use is not None and use.cores > DISTURBED_CORES
    return f"{describe_use(use)}: measure it again" if disturbed else ""


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
