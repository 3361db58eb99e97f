"""Where the time of a network goes, layer by layer, in fp32 and in int8, on ONNX Runtime and on OpenVINO.

    python -m benchmarks layers MODEL [--each]

One thread; the graphs take turns. What other programs do only adds, and a layer takes microseconds: of each layer the
fastest round counts. The engines' own clocks cost something, so that the last line, the whole network
without them in CPU time, is what to compare with other tables.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from edgead.export.layers import ACTIVATIONS, layers

from edgead.artifact.folder import Artifact
from edgead.artifact.preprocess import preprocess
from edgead.images.files import load_image
from edgead.runtime.ort import WITHOUT

WARM_UP = 3
LAYOUT = {"Transpose", "Reorder", "ReorderInput", "ReorderOutput"}
QUANTISATION = {"QuantizeLinear", "DequantizeLinear", "FakeQuantize"}
# What engines put behind the names of nodes or of their outputs.
_ADDED = re.compile(r"(_nchwc|_token_\d+|/WithoutBiases|_original)+$")

Times = dict[tuple[str, str], float]
"""(kind, layer) to milliseconds."""


class Attribution:
    """Says which layer of the network a node of an engine is, whatever the engine made of it."""

    def __init__(self, fp32: onnx.ModelProto):
        sides = {tensor.name: tensor.dims for tensor in fp32.graph.initializer}
        followers = {node.input[0]: node for node in fp32.graph.node if node.op_type in ACTIVATIONS}
        self._known: dict[str, tuple[str, str]] = {}
        for name, node in layers(fp32).items():
            _, inputs, *kernel = sides[node.input[1]]
            groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
            kind = (
                "depthwise" if groups > 1 and inputs == 1 else "1 x 1" if set(kernel) == {1} else "other convolutions"
            )
            follower = followers.get(node.output[0])
            for alias in (node.name, node.output[0], *(follower.output if follower else ())):
                self._known[alias] = (kind, name)

    def __call__(self, node: str, operation: str) -> tuple[str, str]:
        """Kind and layer of a node; for what is no layer, its operation stands for the layer."""
        found = self._known.get(_ADDED.sub("", node))
        # Engines name what they put before a layer after it too.
        if found and ("Conv" in operation or operation == "Deconvolution"):
            return found
        kind = "layout" if operation in LAYOUT else "quantisation" if operation in QUANTISATION else "rest"
        return kind, operation


class OrtLayers:
    """A graph on ONNX Runtime with its profiler."""

    def __init__(self, graph: bytes, *, profiled: bool):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_free_dimension_override_by_name("batch", 1)
        options.enable_profiling = profiled
        self._folder = tempfile.TemporaryDirectory()
        options.profile_file_prefix = f"{self._folder.name}/profile"
        self._session = onnxruntime.InferenceSession(graph, options, disabled_optimizers=WITHOUT)
        self._input = self._session.get_inputs()[0].name

    def run(self, image: np.ndarray) -> None:
        self._session.run(None, {self._input: image})

    def nodes(self) -> dict[tuple[str, str], list[float]]:
        """(node, operation) to milliseconds of every run; ends the profile."""
        found = defaultdict(list)
        for event in json.loads(Path(self._session.end_profiling()).read_text()):
            if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
                node = event["name"].removesuffix("_kernel_time")
                found[node, event["args"]["op_name"]].append(event["dur"] / 1e3)
        self._folder.cleanup()
        return found


class OpenVinoLayers:
    """A graph on OpenVINO with its performance counts."""

    def __init__(self, graph: bytes, *, profiled: bool):
        import openvino

        core = openvino.Core()
        model = core.read_model(graph)
        model.reshape({model.inputs[0].any_name: [1, *list(model.inputs[0].partial_shape)[1:]]})
        options = {
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
            "PERF_COUNT": profiled,
        }
        self._request: Any = core.compile_model(model, "CPU", options).create_infer_request()
        self._executed = openvino.ProfilingInfo.Status.EXECUTED
        self._profiled = profiled
        self._found: dict[tuple[str, str], list[float]] = defaultdict(list)

    def run(self, image: np.ndarray) -> None:
        self._request.infer({0: image})
        if self._profiled:
            for info in self._request.profiling_info:
                if info.status == self._executed:
                    self._found[info.node_name, info.node_type].append(info.real_time.total_seconds() * 1e3)

    def nodes(self) -> dict[tuple[str, str], list[float]]:
        """(node, operation) to milliseconds of every run."""
        return self._found


ENGINES: dict[str, Callable[..., OrtLayers | OpenVinoLayers]] = {
    "ONNX Runtime": OrtLayers,
    "OpenVINO": OpenVinoLayers,
}
Column = tuple[str, str]
"""Engine and precision."""


def main(arguments: list[str]) -> None:
    """Run the graphs in turns and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks layers", description=__doc__)
    parser.add_argument("model", type=Path, help="an artifact with these precisions")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--each", action="store_true", help="a line for each layer")
    options = parser.parse_args(arguments)
    artifact = Artifact.load(options.model)
    graphs = {precision: artifact.graph(precision).read_whole() for precision in options.precisions}
    golden = artifact.graph("fp32").golden
    images = [preprocess(load_image(artifact.path / each.image), artifact.manifest.preprocessing) for each in golden]
    attribute = Attribution(onnx.load_from_string(artifact.graph("fp32").read_whole()))
    columns = [(engine, precision) for engine in ENGINES for precision in graphs]
    profiled = {(engine, precision): ENGINES[engine](graphs[precision], profiled=True) for engine, precision in columns}
    plain = {(engine, precision): ENGINES[engine](graphs[precision], profiled=False) for engine, precision in columns}
    _take_turns(profiled, images, options.rounds)
    whole = _take_turns(plain, images, options.rounds)
    times = {column: _times(engine.nodes(), attribute) for column, engine in profiled.items()}
    print("\n".join(table(times, whole, each=options.each)))


def _take_turns(
    engines: Mapping[Column, OrtLayers | OpenVinoLayers], images: Sequence[np.ndarray], rounds: int
) -> dict[Column, float]:
    """Median CPU milliseconds of a run."""
    spent: dict[Column, list[float]] = defaultdict(list)
    for number in range(WARM_UP + rounds):
        for column, engine in engines.items():
            image = images[number % len(images)][None]
            start = time.process_time_ns()
            engine.run(image)
            spent[column].append((time.process_time_ns() - start) / 1e6)
    return {column: float(np.median(values[WARM_UP:])) for column, values in spent.items()}


def _times(nodes: Mapping[tuple[str, str], Sequence[float]], attribute: Attribution) -> Times:
    found: Times = defaultdict(float)
    for (node, operation), values in nodes.items():
        found[attribute(node, operation)] += min(values[WARM_UP:])
    return found


def table(times: Mapping[Column, Times], whole: Mapping[Column, float], *, each: bool) -> list[str]:
    """Lines of a table: milliseconds by kind of layer, and by layer with `each`."""
    columns = list(times)
    lines = [
        f"| ms | {' | '.join(' '.join(column) for column in columns)} |",
        f"|---{'|---' * len(columns)}|",
    ]
    keys = dict.fromkeys(key for column in columns for key in times[column])
    for kind in sorted({kind for kind, _ in keys}):
        of_kind = [key for key in keys if key[0] == kind]
        sums = [sum(times[column].get(key, 0.0) for key in of_kind) for column in columns]
        lines.append(_line(kind, sums))
        if each:
            lines += [
                _line(f"  {layer}", [times[column].get((kind, layer), 0.0) for column in columns])
                for _, layer in of_kind
            ]
    lines.append(_line("sum", [sum(times[column].values()) for column in columns]))
    lines.append(_line("network, CPU time", [whole[column] for column in columns]))
    return lines


def _line(name: str, values: Sequence[float]) -> str:
    return f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |"
