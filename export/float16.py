"""Conversion to fp16: layers with weights use half floats; input, outputs and nodes after the last layer do not."""

from __future__ import annotations

import onnx
from edgead.export.layers import body, matches, transformer
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a float graph to half floats; `model` is not changed.

    Nodes after the last layer with weights stay in float, and so do the nodes named by `matches`: squared distances and
    products of features would exceed the range of half floats.
    """
    inside = (body(model) | transformer(model)) - matches(model)
    outside = [node.name for node in model.graph.node if node.name not in inside]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    half = OnnxModel(convert_float_to_float16(copy, keep_io_types=True, node_block_list=outside))
    _join(half.model.graph, set(outside))
    half.topological_sort()
    return half.model


def _join(graph: onnx.GraphProto, outside: set[str]) -> None:
    """Remove the casts to half floats that the converter puts between two nodes that stay in float.

    Such casts would destroy the neutral inputs of a frozen backbone, whose squared lengths exceed half floats.
    """
    by_float = {name for node in graph.node if node.name in outside for name in node.output}
    whole = {
        node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast" and node.input[0] in by_float
    }
    again = {
        node.output[0]: whole[node.input[0]] for node in graph.node if node.op_type == "Cast" and node.input[0] in whole
    }
    for node in graph.node:
        if node.name in outside:
            node.input[:] = [again.get(name, name) for name in node.input]
    for made in (again, whole):  # casts to half floats are unused once the casts back are gone
        used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
        for node in [node for node in graph.node if node.output[0] in made and node.output[0] not in used]:
            graph.node.remove(node)
