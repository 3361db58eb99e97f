"""Graphs that do not fit their manifest, ask for too much, or do not end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from small_graph import SIZE

IMAGE = ("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])
FEATURES = ("features", TensorProto.FLOAT, ["batch", SIZE, SIZE, 5])


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [output], **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Any] | None = None,
    *,
    inputs: Sequence[tuple] = (IMAGE,),
    outputs: Sequence[tuple] = (FEATURES,),
    opset: int = 18,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def of_shape(
    shape: Sequence[int],
    *,
    kind: int = TensorProto.FLOAT,
    declared: Sequence[Any] | None = None,
    name: str = "features",
    inputs: Sequence[tuple] = (IMAGE,),
) -> onnx.ModelProto:
    """The largest value of the image, spread over an output of any shape and type."""
    nodes = [
        node("Cast", [inputs[0][0]], "float", to=TensorProto.FLOAT),
        node("ReduceMax", ["float"], "one", keepdims=0),
        node("Cast", ["one"], "typed", to=kind),
        node("Expand", ["typed", "shape"], name),
    ]
    outputs = [(name, kind, list(declared or ["batch", *shape[1:]]))]
    return model(nodes, {"shape": np.array(shape, np.int64)}, inputs=inputs, outputs=outputs)


def image(*sides: Any, name: str = "image", kind: int = TensorProto.UINT8) -> tuple:
    return (name, kind, list(sides))


GOOD = (1, SIZE, SIZE, 5)


def two_inputs() -> onnx.ModelProto:
    other = image("batch", SIZE, SIZE, 3, name="other")
    nodes = [
        node("Cast", ["image"], "a", to=TensorProto.FLOAT),
        node("Cast", ["other"], "b", to=TensorProto.FLOAT),
        node("Add", ["a", "b"], "sum"),
        node("ReduceMax", ["sum"], "one", keepdims=0),
        node("Expand", ["one", "shape"], "features"),
    ]
    return model(nodes, {"shape": np.array(GOOD, np.int64)}, inputs=[IMAGE, other])


def no_input() -> onnx.ModelProto:
    return model(
        [node("Expand", ["one", "shape"], "features")], {"one": np.float32(1), "shape": np.array(GOOD)}, inputs=[]
    )


def two_outputs() -> onnx.ModelProto:
    made = of_shape(GOOD)
    made.graph.node.append(node("Identity", ["one"], "more"))
    made.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, []))
    return made


def divided_by_zero() -> onnx.ModelProto:
    """NaN for every patch."""
    made = of_shape(GOOD, name="finite")
    made.graph.node.append(node("Sub", ["finite", "finite"], "zero"))
    made.graph.node.append(node("Div", ["zero", "zero"], "features"))
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info(*FEATURES))
    return made


def through_terabytes() -> onnx.ModelProto:
    """An output of the right shape, by way of one that no machine holds."""
    made = of_shape((1 << 14, 1 << 14, 1 << 14, 5), name="vast")
    made.graph.node.append(node("ReduceMax", ["vast"], "again", keepdims=0))
    made.graph.node.append(node("Expand", ["again", "right"], "features"))
    made.graph.initializer.append(numpy_helper.from_array(np.array(GOOD, np.int64), "right"))
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info(*FEATURES))
    return made


def out_of_range() -> onnx.ModelProto:
    """An index that is known only when the graph runs, and lies outside."""
    nodes = [
        node("Cast", ["image"], "float", to=TensorProto.FLOAT),
        node("ReduceMax", ["float"], "one", keepdims=0),
        node("Cast", ["one"], "whole", to=TensorProto.INT64),
        node("Add", ["whole", "far"], "index"),
        node("Gather", ["float", "index"], "gathered", axis=3),
        node("ReduceMax", ["gathered"], "last", keepdims=0),
        node("Expand", ["last", "shape"], "features"),
    ]
    return model(nodes, {"far": np.int64(1000), "shape": np.array(GOOD, np.int64)})


def sides_of_the_image() -> onnx.ModelProto:
    """As many patches as the brightest value of the image says."""
    nodes = [
        node("Cast", ["image"], "float", to=TensorProto.FLOAT),
        node("ReduceMax", ["float"], "one", keepdims=0),
        node("Cast", ["one"], "whole", to=TensorProto.INT64),
        node("Mul", ["whole", "shape"], "sides"),
        node("Expand", ["one", "sides"], "features"),
    ]
    declared = ("features", TensorProto.FLOAT, ["batch", "h", "w", "d"])
    return model(nodes, {"shape": np.array([1, 1, 1, 1], np.int64)}, outputs=[declared])


SHAPES = {
    "input_float": of_shape(GOOD, inputs=[image("batch", SIZE, SIZE, 3, kind=TensorProto.FLOAT)]),
    "input_int8": of_shape(GOOD, inputs=[image("batch", SIZE, SIZE, 3, kind=TensorProto.INT8)]),
    "input_of_another_name": of_shape(GOOD, inputs=[image("batch", SIZE, SIZE, 3, name="photo")]),
    "input_of_another_size": of_shape(GOOD, inputs=[image("batch", SIZE, SIZE + 1, 3)]),
    "input_grey": of_shape(GOOD, inputs=[image("batch", SIZE, SIZE, 1)]),
    "input_rank_3": of_shape(GOOD, inputs=[image(SIZE, SIZE, 3)]),
    "input_scalar": of_shape(GOOD, inputs=[image()]),
    "input_batch_of_7": of_shape(GOOD, inputs=[image(7, SIZE, SIZE, 3)]),
    "input_sides_unknown": of_shape(GOOD, inputs=[image("batch", "h", "w", 3)]),
    "inputs_two": two_inputs(),
    "inputs_none": no_input(),
    "output_double": of_shape(GOOD, kind=TensorProto.DOUBLE),
    "output_half": of_shape(GOOD, kind=TensorProto.FLOAT16),
    "output_int64": of_shape(GOOD, kind=TensorProto.INT64),
    "output_scalar": of_shape(()),
    "output_rank_2": of_shape((1, 5)),
    "output_rank_3": of_shape((1, SIZE, SIZE)),
    "output_rank_6": of_shape((1, 1, 1, SIZE, SIZE, 5)),
    "output_of_another_name": of_shape(GOOD, name="scores"),
    "output_of_no_patches": of_shape((1, 0, 0, 5)),
    "output_of_no_columns": of_shape((1, SIZE, SIZE, 0)),
    "output_finer_than_the_image": of_shape((1, SIZE * 64, SIZE * 64, 5)),
    "output_of_terabytes": of_shape((1, SIZE, SIZE, 1 << 38)),
    "output_of_gigabytes": of_shape((1, SIZE, SIZE, 1 << 22)),
    "output_sides_unknown": sides_of_the_image(),
    "output_other_than_declared": of_shape((1, SIZE, SIZE, 9), declared=["batch", SIZE, SIZE, 5]),
    "outputs_two": two_outputs(),
    "gives_nan": divided_by_zero(),
    "through_terabytes": through_terabytes(),
    "index_out_of_range": out_of_range(),
    "operator_unknown": model([node("Explode", ["image"], "features")]),
    "operator_of_a_foreign_domain": model([node("Conv", ["image"], "features", domain="org.example")]),
    "opset_of_the_future": model([node("Cast", ["image"], "features", to=TensorProto.FLOAT)], opset=999),
    "graph_of_no_nodes": model([]),
    "graph_in_a_circle": model(
        [node("Add", ["features", "b"], "a"), node("Neg", ["a"], "features")], {"b": np.float32(1)}
    ),
}


def subgraph(nodes: Sequence[onnx.NodeProto], inputs: Sequence[tuple], outputs: Sequence[tuple]) -> onnx.GraphProto:
    one = numpy_helper.from_array(np.float32(1), "step")
    values = [[helper.make_tensor_value_info(*value) for value in side] for side in (inputs, outputs)]
    return helper.make_graph(nodes, "within", values[0], values[1], [one])


def with_control_flow(kind: str) -> onnx.ModelProto:
    """The largest value of the image by way of a graph within a node."""
    flag, number, index = (TensorProto.BOOL, []), (TensorProto.FLOAT, []), (TensorProto.INT64, [])
    keep, add = node("Identity", ["go_in"], "go_out"), node("Add", ["x_in", "step"], "x_out")
    if kind == "Loop":  # on and on
        body = subgraph(
            [keep, add], [("i", *index), ("go_in", *flag), ("x_in", *number)], [("go_out", *flag), ("x_out", *number)]
        )
        inner = [node("Loop", ["", "true", "one"], "last", body=body)]
    elif kind == "If":
        branch = subgraph([node("Identity", ["one"], "x_out")], [], [("x_out", *number)])
        inner = [node("If", ["true"], "last", then_branch=branch, else_branch=branch)]
    else:
        body = subgraph(
            [add, node("Identity", ["x_in"], "seen")],
            [("x_in", *number), ("row", *number)],
            [("x_out", *number), ("seen", *number)],
        )
        inner = [helper.make_node("Scan", ["one", "many"], ["last", "all"], num_scan_inputs=1, body=body)]
    nodes = [
        node("Cast", ["image"], "float", to=TensorProto.FLOAT),
        node("ReduceMax", ["float"], "one", keepdims=0),
        *inner,
        node("Expand", ["last", "shape"], "features"),
    ]
    return model(nodes, {"shape": np.array(GOOD, np.int64), "true": np.array(True), "many": np.zeros(9, np.float32)})


def with_a_function() -> onnx.ModelProto:
    made = of_shape(GOOD, name="plain")
    made.graph.node.append(node("Same", ["plain"], "features", domain="local"))
    opset = helper.make_opsetid("", 18)
    made.functions.append(helper.make_function("local", "Same", ["a"], ["b"], [node("Identity", ["a"], "b")], [opset]))
    made.opset_import.append(helper.make_opsetid("local", 1))
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info(*FEATURES))
    return made


def external(tensor: onnx.TensorProto, location: str) -> onnx.TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def with_external_data(location: str) -> onnx.ModelProto:
    made = of_shape(GOOD)
    external(made.graph.initializer[0], location)
    return made


def many_products(side: int, count: int) -> onnx.ModelProto:
    """An output of the right shape, by way of products of large matrices, one after the other."""
    made = of_shape((side, side), name="product_0")
    for number in range(count):
        made.graph.node.append(node("MatMul", [f"product_{number}"] * 2, f"product_{number + 1}"))
    made.graph.node.append(node("ReduceMax", [f"product_{count}"], "again", keepdims=0))
    made.graph.node.append(node("Expand", ["again", "right"], "features"))
    made.graph.initializer.append(numpy_helper.from_array(np.array(GOOD, np.int64), "right"))
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info(*FEATURES))
    return made


def with_external_constant(location: str) -> onnx.ModelProto:
    made = of_shape(GOOD)
    value = external(numpy_helper.from_array(np.array(GOOD, np.int64), "v"), location)
    del made.graph.initializer[:]
    made.graph.node.insert(0, node("Constant", [], "shape", value=value))
    return made


def with_sparse_external_data(location: str) -> onnx.ModelProto:
    made = of_shape(GOOD)
    sparse = made.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(external(numpy_helper.from_array(np.array(GOOD, np.int64), "shape"), location))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(4), "indices"))
    del made.graph.initializer[:]
    return made


OPEN = {
    "loop_without_end": with_control_flow("Loop"),
    "branch": with_control_flow("If"),
    "scan": with_control_flow("Scan"),
    "function": with_a_function(),
    "values_in_a_file_unlisted": with_external_data("weights.bin"),
    "values_in_a_file_outside": with_external_data("../weights.bin"),
    "values_in_a_file_absolute": with_external_data("/etc/hostname"),
    "values_in_a_device": with_external_data("/dev/zero"),
    "values_of_a_constant_in_a_file": with_external_constant("weights.bin"),
    "values_of_a_sparse_tensor_in_a_file": with_sparse_external_data("weights.bin"),
}
