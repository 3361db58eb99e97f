"""The metric of a memory bank as a product of 8-bit numbers: it would be a tenth of an int8 network's time.

What it multiplies has a damped length (`methods.patchcore.network`): no number is above 1, whatever the image shows, so
8 bits over -1 to 1 clip nothing. Features without damping have no such bound, and their metric stays in float. So do
the sums: the output, which is compared with the memory bank, is not rounded.
"""

from __future__ import annotations

import numpy as np
import onnx
from edgead.export.layers import METRIC
from edgead.export.rounding import LARGEST, up_or_down
from onnx import helper, numpy_helper

# Of the damped features, as uint8.
_STEP, _ZERO_POINT = 1 / 127, 128


def quantise_metric(model: onnx.ModelProto, moments: np.ndarray | None) -> None:
    """Replace the metric of a graph, a 1 x 1 convolution between two transpositions, by a product in 8 bits.

    Parameters
    ----------
    model : ModelProto
        Changed. The matrix, transposed, is called as the weights of a quantised layer are.
    moments : ndarray of shape (1, n, n), optional
        See `edgead.export.rounding`; without, each weight becomes the nearest.
    """
    graph = model.graph
    product = next(node for node in graph.node if METRIC in node.input)
    before = next(node for node in graph.node if product.input[0] in node.output)
    after = next(node for node in graph.node if product.output[0] in node.input)
    weight = next(tensor for tensor in graph.initializer if tensor.name == METRIC)
    values = numpy_helper.to_array(weight)[:, :, 0, 0].astype(np.float64)
    largest = np.abs(values).max(axis=1)
    scale = np.where(largest > 0, largest / LARGEST, 1.0).astype(np.float32)
    rows = values / scale[:, None]
    rounded = np.round(rows) if moments is None else up_or_down(rows, moments)
    matrix = f"{METRIC}_quantized", f"{METRIC}_scale", f"{METRIC}_zero_point"
    features = f"{METRIC}_input_scale", f"{METRIC}_input_zero_point"
    constants: dict[str, np.ndarray] = {
        matrix[0]: np.ascontiguousarray(rounded.T.astype(np.int8)),
        matrix[1]: scale,
        matrix[2]: np.zeros(len(scale), np.int8),
        features[0]: np.array(_STEP, np.float32),
        features[1]: np.array(_ZERO_POINT, np.uint8),
    }
    graph.initializer.remove(weight)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    at = list(graph.node).index(after)
    source, rounded_source, dequantised = before.input[0], f"{METRIC}_input_quantized", f"{METRIC}_input"
    nodes = [
        helper.make_node("QuantizeLinear", [source, *features], [rounded_source], name=rounded_source),
        helper.make_node("DequantizeLinear", [rounded_source, *features], [dequantised], name=dequantised),
        helper.make_node("DequantizeLinear", matrix, [f"{METRIC}_matrix"], name=f"{METRIC}_matrix", axis=1),
        helper.make_node("MatMul", [dequantised, f"{METRIC}_matrix"], [after.output[0]], name=f"{METRIC}_product"),
    ]
    for number, node in enumerate(nodes):
        graph.node.insert(at + number, node)
    for node in (before, product, after):
        graph.node.remove(node)
