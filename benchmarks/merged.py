"""What `MergedStudentTeacher` is worth: the graph of EfficientAD beside that of the network it is made of.

    python -m benchmarks merged [--sizes nano small medium] [--rounds 100]

Weights are random: only forms matter. Graphs take turns, and ratios are of rounds, so that what else the machine does
meets both. On one thread the process's CPU time counts, on two the wall clock. Kernels are those that TensorRT for RTX
lists of its fp16 engine for sm86, which it builds without a GPU, and bytes what they read and write of activations.
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
import torch
from edgead.export.float16 import to_float16
from edgead.export.graph import export_onnx
from edgead.export.quantize import MIN_IMAGES, SCHEMES, measure_ranges, quantize

from edgead.artifact.manifest import Manifest
from edgead.runtime.flavour import find_flavour
from edgead.runtime.ort import WITHOUT
from edgead.workstation.methods.efficient_ad.detector import EfficientAD
from edgead.workstation.methods.efficient_ad.student_teacher import StudentTeacher

Call = Callable[[np.ndarray], np.ndarray]
_BYTES = {"Half": 2, "Float": 4, "UInt8": 1, "Int8": 1}


def exported(size: str, folder: Path) -> list[onnx.ModelProto]:
    """Graphs of the plain and of the merged network."""
    detector = EfficientAD.from_settings({"model_size": size}, pretrained=False)
    torch.manual_seed(0)
    for name, values in detector.network.named_parameters():
        if name.endswith("bias"):  # the exporter would leave out those that are zero
            values.detach().normal_(std=0.1)
    manifest = Manifest.draft(detector.name, detector.preprocessing, detector.head)
    merged, plain = folder / "merged.onnx", folder / "plain.onnx"
    export_onnx(detector.network, merged, manifest)
    with patch.object(StudentTeacher, "merged", lambda network: network):
        export_onnx(detector.network, plain, manifest)
    return [onnx.load(plain), onnx.load(merged)]


def to_int8(model: onnx.ModelProto, images: Sequence[np.ndarray]) -> onnx.ModelProto:
    return quantize(model, measure_ranges(model, images, "minmax", lambda done, total: None), SCHEMES["int8"])


def open_onnxruntime(content: bytes, threads: int) -> Call:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_free_dimension_override_by_name("batch", 1)
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"], disabled_optimizers=WITHOUT
    )
    return lambda image: session.run(None, {"image": image})[0]


def open_openvino(content: bytes, threads: int) -> Call:
    import openvino

    core = openvino.Core()
    model = core.read_model(content)
    model.reshape({"image": [1, *(side.get_length() for side in list(model.input(0).partial_shape)[1:])]})
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}
    request = core.compile_model(model, "CPU", {**options, "INFERENCE_NUM_THREADS": threads}).create_infer_request()
    return lambda image: np.array(request.infer({0: image})[0])


def ratio(calls: Sequence[Call], image: np.ndarray, rounds: int, clock: Callable[[], int]) -> str:
    """Median times of both, and quartiles of the second over the first, round by round."""
    times = np.empty((rounds + 1, len(calls)))
    for turn in times:
        for number, call in enumerate(calls):
            start = clock()
            call(image)
            turn[number] = clock() - start
    plain, merged = times[1:].T / 1e6
    low, middle, high = np.quantile(merged / plain, (0.25, 0.5, 0.75))
    return f"{np.median(plain):8.2f} {np.median(merged):8.2f} ms, {middle:.3f} ({low:.3f} to {high:.3f})"


def kernels(model: onnx.ModelProto) -> str:
    """Kernels of the fp16 engine, and the bytes of their activations."""
    trt: Any = find_flavour("sm86").api
    lines: list[str] = []

    class Log(trt.ILogger):  # type: ignore[misc]
        def log(self, severity: Any, text: str) -> None:
            lines.extend(text.splitlines())

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, log).parse(to_float16(model).SerializeToString())
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    shape = (1, *tuple(network.get_input(0).shape)[1:])
    profile.set_shape("image", shape, shape, shape)
    config.add_optimization_profile(profile)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    assert builder.build_serialized_network(network, config) is not None
    found = [line for line in lines if re.match(r"Name: \S+, LayerType: (?!signal|wait)", line)]
    activations = [re.sub(r"Constants: .*?Outputs: ", "Outputs: ", line) for line in found]
    tensors = re.findall(r"Dimensions: \[([\d,]*)\], Strides: .*?Datatype: (\w+)", " ".join(activations))
    read = sum(math.prod(map(int, sides.split(","))) * _BYTES[kind] for sides, kind in tensors)
    return f"{len(found)} kernels, {read / 1e6:.1f} MB"


def main(arguments: list[str]) -> None:
    """Print a line for each graph, runtime and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["nano", "small", "medium"])
    parser.add_argument("--rounds", type=int, default=100, help="0 counts kernels alone")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (MIN_IMAGES, 256, 256, 3), np.uint8))
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            graphs = {"fp32": exported(size, Path(folder))}
        print(size, "plain:", kernels(graphs["fp32"][0]), "merged:", kernels(graphs["fp32"][1]), flush=True)
        if not options.rounds:
            continue
        graphs["int8"] = [to_int8(model, images) for model in graphs["fp32"]]
        for precision, models in graphs.items():
            for opened in (open_onnxruntime, open_openvino):
                for threads, clock in ((1, time.process_time_ns), (2, time.perf_counter_ns)):
                    calls = [opened(model.SerializeToString(), threads) for model in models]
                    found = ratio(calls, images[0][None], options.rounds, clock)
                    print(size, precision, opened.__name__[5:], threads, found, flush=True)
