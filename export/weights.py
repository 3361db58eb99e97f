"""Comparison of a graph's weights with the fp32 ones, rounded: scores alone would not show a small change."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def changed_weights(fp32: onnx.ModelProto, model: onnx.ModelProto) -> list[str]:
    """Names of weights in `model` that are further from those of `fp32` than rounding allows.

    That is a step of the quantisation, as weights are rounded up or down (`edgead.export.rounding`), half a step for
    biases, and half a unit in the last place of a half float.
    """
    expected = _constants(fp32)
    found = _constants(model)
    same = {name: _is_rounded(values, expected[name]) for name, values in found.items() if name in expected}
    for node in model.graph.node:
        name = node.input[0].removesuffix("_quantized") if node.input else ""
        if node.op_type == "DequantizeLinear" and node.input[0] in found and name in expected:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            values, scale, zero_point = (found[constant] for constant in node.input)
            same[name] = _is_quantised((values, scale, zero_point), axis, expected[name])
    if not same:
        return sorted(expected)  # nothing could be compared: the graphs do not belong together
    return sorted(name for name, is_same in same.items() if not is_same)


def _is_quantised(stored: tuple[np.ndarray, np.ndarray, np.ndarray], axis: int, expected: np.ndarray) -> bool:
    values, scale, zero_point = stored
    if values.ndim == 2 < expected.ndim:
        expected = expected[:, :, 0, 0].T  # a 1 x 1 convolution that became a product of matrices
    shape = [-1 if i == axis else 1 for i in range(values.ndim)] if scale.size > 1 else scale.shape
    step = scale.reshape(shape)
    restored = (values.astype(np.float64) - zero_point.reshape(shape)) * step
    # Scales are float32: a value in the middle of two steps may go either way. Biases are int32.
    allowed = 1.001 if values.dtype == np.int8 else 0.501
    return bool((np.abs(restored - expected) <= allowed * step + 1e-12).all())


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _is_rounded(values: np.ndarray, expected: np.ndarray) -> bool:
    if values.dtype != np.float16 or expected.dtype != np.float32:
        return values.dtype != expected.dtype or np.array_equal(values, expected)
    # The converter lifts what half floats cannot hold to their smallest number, 1e-7 in its setting.
    close = np.abs(values.astype(np.float32) - expected) <= np.maximum(np.abs(expected) * 2**-11, 1e-7)
    return bool(close.all())
