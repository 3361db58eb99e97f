"""fp16: layers with weights compute in half floats; input, outputs and what follows the last layer keep their types."""

from __future__ import annotations

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from edgead.export.layers import body, transformer


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a float graph to half floats; `model` is not changed.

    What follows the last layer with weights stays in float: squared distances would leave the range of half floats.
    """
    inside = body(model) | transformer(model)
    outside = [node.name for node in model.graph.node if node.name not in inside]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    half = OnnxModel(convert_float_to_float16(copy, keep_io_types=True, node_block_list=outside))
    half.topological_sort()
    return half.model
