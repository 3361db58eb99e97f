"""Wrapping of ONNX graphs from other tools; see `edgead.export.foreign`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from edgead.export.foreign import (
    CHANNELS,
    MAX_WHITE,
    PATCH_SCORES,
    ForeignGraph,
    Input,
    Outputs,
    Port,
    Run,
    read_model_file,
)
from google.protobuf.message import DecodeError
from onnx import TensorProto, compose, helper, inliner, numpy_helper

from edgead.artifact.files import MAX_FILE_BYTES
from edgead.artifact.manifest import GraphRecord, Manifest
from edgead.artifact.onnx_file import OpenGraphError, check_closed
from edgead.errors import SettingsError
from edgead.heads.patches import GRAPH_SCORE

# Prefixes of the names in the original graph, and of those in the wrapper.
_INNER, _OUTER = "imported.", "edgead."
_CONSTANTS_ALONE = 4  # first IR version in which constants need not be inputs too
# Largest number of nodes after inlining of functions, and of nested calls. A large network has a tenth of them.
_MAX_NODES, _MAX_NESTED = 100_000, 64


class OnnxGraph(ForeignGraph):
    """ONNX graph with all values, including values in files beside the ONNX file, and with its functions inlined.

    Raises SettingsError: the file is no ONNX graph.
    """

    format = "ONNX"
    record = GraphRecord()

    def __init__(self, path: Path):
        model = _read(path)
        self.path = path
        self._model = inliner.inline_local_functions(model) if model.functions else model
        self.producer = f"{model.producer_name} {model.producer_version}".strip()
        self.properties = {entry.key: entry.value for entry in model.metadata_props}
        constants = {tensor.name for tensor in model.graph.initializer}
        self.inputs = [_port(value) for value in model.graph.input if value.name not in constants]
        self.output_names = [value.name for value in model.graph.output]

    def open(self, given: Input, size: tuple[int, int]) -> Run:
        """Open the original graph without optimisations; see `ForeignGraph.open`."""
        self._model = _sized(self._model, given, size)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        content = self._model.SerializeToString()
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  ONNX Runtime's errors share no base of their own
            raise SettingsError(f"{self.path} cannot be opened by ONNX Runtime: {error}") from error

        def run(made: np.ndarray) -> dict[str, np.ndarray]:
            try:
                values = map(given.first, session.run(None, {given.port.name: made}))
                return dict(zip(self.output_names, values, strict=True))
            except Exception as error:  # noqa: BLE001  as above
                raise SettingsError(
                    f"{self.path} does not run on {size[0]} x {size[1]} pixels: {error}; name another --size"
                ) from error

        return run

    def write(self, draft: Path, manifest: Manifest, given: Input, outputs: Outputs) -> None:
        """Write the wrapped graph; see `ForeignGraph.write`.

        Raises SettingsError: the graph may run forever; see `edgead.artifact.onnx_file`.
        """
        wrapped = _wrapped(self._model, manifest, given, outputs)
        try:
            check_closed(wrapped.SerializeToString())
        except OpenGraphError as error:
            raise SettingsError(f"{self.path} cannot be used: {error}; export it without") from error
        helper.set_model_props(wrapped, manifest.graph_properties)
        onnx.save(wrapped, draft / self.record.file)


def _read(path: Path) -> onnx.ModelProto:
    """Read a model with its values in external files; see `OnnxGraph`."""
    files = [path.name]
    try:
        model = onnx.load_model_from_string(read_model_file(path))
        apart = [{entry.key: entry.value for entry in tensor.external_data} for tensor in _tensors(model)]
        files += sorted({about["location"] for about in apart if "location" in about})
        sizes = (
            about.get("length") or (path.parent / about.get("location", "")).stat().st_size for about in apart if about
        )
        if sum(map(int, sizes)) > MAX_FILE_BYTES:
            raise ValueError(f"values in other files are more than {MAX_FILE_BYTES >> 30} GB")
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise SettingsError(
            f"{path} is no ONNX file that can be read ({error}): copy {' and '.join(files)} again, or export the model "
            "again"
        ) from error
    nodes, size = _unfolded(model, lambda _: 1), _unfolded(model, onnx.NodeProto.ByteSize)
    if nodes > _MAX_NODES or size > MAX_FILE_BYTES:
        raise SettingsError(
            f"{path} has functions that call each other: unfolded, they have more than {_MAX_NODES} nodes or "
            f"{MAX_FILE_BYTES >> 30} GB; export the model without functions"
        )
    return model


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield all tensors of a model, including tensors within nodes; some may be empty."""
    yield from model.graph.initializer
    for node in _with_inner([*model.graph.node, *(node for one in model.functions for node in one.node)]):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            yield from (tensor for graph in (attribute.g, *attribute.graphs) for tensor in graph.initializer)


def _unfolded(model: onnx.ModelProto, weight: Callable[[onnx.NodeProto], int]) -> float:
    """Sum `weight` over all nodes, as if calls were inlined; infinity if calls are nested too deep."""
    bodies = {_called(one.domain, one.name, one.overload): _with_inner(one.node) for one in model.functions}
    main = ("", "", "")  # a name that no function has
    bodies[main] = _with_inner(model.graph.node)
    own = {name: sum(map(weight, nodes)) for name, nodes in bodies.items()}
    calls = {
        name: Counter(_called(one.domain, one.op_type, one.overload) for one in nodes) for name, nodes in bodies.items()
    }
    weights = dict(own)
    for _ in range(_MAX_NESTED):
        before = weights
        weights = {
            name: own[name] + sum(count * before.get(callee, 0) for callee, count in calls[name].items())
            for name in own
        }
        if weights == before:
            return weights[main]
    return math.inf


def _called(domain: str, name: str, overload: str) -> tuple[str, str, str]:
    return "" if domain == "ai.onnx" else domain, name, overload


def _with_inner(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """List nodes, and the nodes of the graphs within them."""
    found = []
    for node in nodes:
        found.append(node)
        for attribute in node.attribute:
            for inside in (*attribute.graphs, attribute.g):
                found += _with_inner(inside.node)
    return found


def _sized(model: onnx.ModelProto, given: Input, size: tuple[int, int]) -> onnx.ModelProto:
    """Copy a model with the input fixed to one image of this size, without shapes of intermediate values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (value,) = (value for value in copy.graph.input if value.name == given.port.name)
    for dimension, side in zip(value.type.tensor_type.shape.dim, given.sides(size), strict=True):
        dimension.dim_value = side
    del copy.graph.value_info[:]
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    return copy


def _wrapped(model: onnx.ModelProto, manifest: Manifest, given: Input, outputs: Outputs) -> onnx.ModelProto:
    inner = compose.add_prefix(model, _INNER)
    constants: dict[str, np.ndarray] = {}
    before = _before(manifest.input, given, constants)
    image = before[-1].output[0] if before else manifest.input
    for node in inner.graph.node:
        node.input[:] = [image if name == f"{_INNER}{given.port.name}" else name for name in node.input]
    ends: dict[str, tuple[str | None, list[int]]] = {PATCH_SCORES: (outputs.map or outputs.score, [1, *outputs.grid])}
    if outputs.both:
        ends[GRAPH_SCORE] = (outputs.score, [1])
    behind, values = [], []
    for name, (source, shape) in ends.items():
        constants[f"{_OUTER}{name}.shape"] = np.array(shape, np.int64)
        last = f"{_INNER}{source}"
        if given.batch > 1:
            constants[f"{_OUTER}{name}.first"] = np.array([0], np.int64)
            behind.append(helper.make_node("Gather", [last, f"{_OUTER}{name}.first"], [f"{_OUTER}{name}.of_first"]))
            last = f"{_OUTER}{name}.of_first"
        behind += [
            helper.make_node("Cast", [last], [f"{_OUTER}{name}"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", [f"{_OUTER}{name}", f"{_OUTER}{name}.shape"], [name]),
        ]
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    graph = helper.make_graph(
        [*before, *_needed(inner.graph.node, [f"{_INNER}{source}" for source, _ in ends.values()]), *behind],
        "imported",
        [
            helper.make_tensor_value_info(
                manifest.input, TensorProto.UINT8, [1, *manifest.preprocessing.image_size, CHANNELS]
            )
        ],
        values,
    )
    used = {name for node in graph.node for name in _taken(node)}
    graph.initializer.extend(tensor for tensor in inner.graph.initializer if tensor.name in used)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.sparse_initializer.extend(each for each in inner.graph.sparse_initializer if each.values.name in used)
    ir_version = max(inner.ir_version, _CONSTANTS_ALONE)
    made = helper.make_model(graph, opset_imports=inner.opset_import, ir_version=ir_version)
    onnx.checker.check_model(made)
    return made


def _before(image: str, given: Input, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """Make the nodes that convert a uint8 RGB image to a graph's input, in the order of `Input.make`."""
    per_channel = (1, 1, 1, CHANNELS) if given.layout == "nhwc" else (1, CHANNELS, 1, 1)
    steps: list[tuple[str, dict[str, Any], np.ndarray | None]] = []
    if given.colour == "bgr":
        steps.append(("Gather", {"axis": 3}, np.array([2, 1, 0], np.int64)))
    if given.port.dtype != "uint8":
        steps.append(("Cast", {"to": TensorProto.FLOAT}, None))
    if given.layout == "nchw":
        steps.append(("Transpose", {"perm": [0, 3, 1, 2]}, None))
    if given.port.dtype != "uint8":
        if given.white != MAX_WHITE:
            steps.append(("Div", {}, np.array(MAX_WHITE / given.white, np.float32)))
        if given.mean:
            steps.append(("Sub", {}, np.array(given.mean, np.float32).reshape(per_channel)))
        if given.std:
            steps.append(("Div", {}, np.array(given.std, np.float32).reshape(per_channel)))
        if given.port.dtype != "float32":
            steps.append(("Cast", {"to": helper.np_dtype_to_tensor_dtype(np.dtype(given.port.dtype))}, None))
    nodes, last = [], image
    for number, (kind, options, constant) in enumerate(steps):
        inputs, name = [last], f"{_OUTER}input.{number}"
        if constant is not None:
            constants[f"{name}.value"] = constant
            inputs.append(f"{name}.value")
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **options))
        last = name
    if given.batch > 1:
        name = f"{_OUTER}input.batch"
        nodes.append(helper.make_node("Concat", [last] * given.batch, [name], name=name, axis=0))
    return nodes


def _needed(nodes: Sequence[onnx.NodeProto], ends: Iterable[str]) -> list[onnx.NodeProto]:
    """Select the nodes, in order, on which the results `ends` depend."""
    wanted, kept = set(ends), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(_taken(node))
            kept.append(node)
    return kept[::-1]


def _taken(node: onnx.NodeProto) -> Iterable[str]:
    """Yield the inputs of a node and of the graphs within it."""
    return (name for one in _with_inner([node]) for name in one.input)


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    sides = tuple(side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim)
    try:
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    except KeyError:
        dtype = TensorProto.DataType.Name(kind.elem_type).lower()
    return Port(value.name, dtype, sides)
