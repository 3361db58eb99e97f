"""The image is made of 8-bit numbers already: a quantised graph need not make floats of them first."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def fold_normalisation(model: onnx.ModelProto) -> bool:
    """Replace Cast, Sub, Div and QuantizeLinear behind the image by one DequantizeLinear that gives the same numbers.

    (x - mean) / std of a uint8 x is what DequantizeLinear computes with scale 1 / std and zero point mean. That needs one
    mean and one std for all channels and a whole mean, as the EfficientNet-Lite networks have; other graphs are left as
    they are.

    Returns
    -------
    bool
        Whether the graph was changed.
    """
    graph = model.graph
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    constants = {tensor.name: tensor for tensor in graph.initializer}

    chain = [next((node for node in graph.node if node.op_type == "Cast"), None)]
    for op_type in ("Sub", "Div", "QuantizeLinear", "DequantizeLinear"):
        following = consumers.get(chain[-1].output[0], []) if chain[-1] else []
        if len(following) != 1 or following[0].op_type != op_type:
            return False
        chain.append(following[0])
    cast, sub, div, quantize, dequantize = chain
    if sub.input[1] not in constants or div.input[1] not in constants:
        return False
    mean = np.unique(numpy_helper.to_array(constants[sub.input[1]]))
    std = np.unique(numpy_helper.to_array(constants[div.input[1]]))
    if mean.size != 1 or std.size != 1 or mean[0] != np.round(mean[0]) or not 0 <= mean[0] <= 255:
        return False
    scale = numpy_helper.from_array(np.array(1 / std[0], np.float32), f"{cast.input[0]}_scale")
    zero_point = numpy_helper.from_array(np.array(mean[0], np.uint8), f"{cast.input[0]}_zero_point")
    graph.initializer.extend([scale, zero_point])
    dequantize.input[:] = [cast.input[0], scale.name, zero_point.name]
    for node in (cast, sub, div, quantize):
        graph.node.remove(node)
    return True
