"""Differences of a graph from the artifact's fp32 graph, in its scores on good images and in its weights.

Scores alone would not reveal a small change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgead.calibration.conformal import score_scale
from edgead.detector import Measurement


def changed_weights(fp32: onnx.ModelProto, model: onnx.ModelProto) -> list[str]:
    """List the weights in `model` that differ from the weights in `fp32` by more than rounding.

    Rounding is at most: a step of the quantisation for weights, which are rounded up or down
    (`edgead.export.rounding`), half a step for biases, and half a unit in the last place for half floats.
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
        return sorted(expected)  # nothing can be compared, as the graphs do not belong together
    return sorted(name for name, is_same in same.items() if not is_same)


def _is_quantised(stored: tuple[np.ndarray, np.ndarray, np.ndarray], axis: int, expected: np.ndarray) -> bool:
    values, scale, zero_point = stored
    if values.ndim == 2 < expected.ndim:
        expected = expected[:, :, 0, 0].T  # a 1 x 1 convolution that became a product of matrices
    shape = [-1 if i == axis else 1 for i in range(values.ndim)] if scale.size > 1 else scale.shape
    step = scale.reshape(shape)
    restored = (values.astype(np.float64) - zero_point.reshape(shape)) * step
    # Scales are float32, so that a value halfway between two steps may be rounded either way. Biases are int32.
    allowed = 1.001 if values.dtype == np.int8 else 0.501
    return bool((np.abs(restored - expected) <= allowed * step + 1e-12).all())


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _is_rounded(values: np.ndarray, expected: np.ndarray) -> bool:
    if values.dtype != np.float16 or expected.dtype != np.float32:
        return values.dtype != expected.dtype or np.array_equal(values, expected)
    # The converter raises values too small for half floats to the smallest number, 1e-7 in its setting.
    close = np.abs(values.astype(np.float32) - expected) <= np.maximum(np.abs(expected) * 2**-11, 1e-7)
    return bool(close.all())


@dataclass(frozen=True, slots=True)
class Differences:
    """Differences from fp32, relative except the correlation of image scores; of scores, relative to `score_scale`.

    Stored are the mean and the largest difference of image scores, the signed mean (which the thresholds compensate),
    and the largest difference of a map's pixel, averaged over the images.
    """

    images: int
    mean_score_error: float
    score_error: float
    score_shift: float
    map_error: float
    correlation: float


def differences(expected: Iterable[Measurement], measured: Iterable[Measurement]) -> Differences:
    """Compare two graphs' measurements of the same images, given as iterators so that no map stays in memory.

    `expected` are the measurements by fp32.
    """
    pairs, map_errors = [], []
    for x, y in zip(expected, measured, strict=True):
        pairs.append((x.image_score, y.image_score))
        largest = max(float(np.abs(x.anomaly_map).max()), 1e-12)
        map_errors.append(float(np.abs(y.anomaly_map - x.anomaly_map).max()) / largest)
    expected_scores, scores = np.array(pairs).T
    relative = (scores - expected_scores) / score_scale(expected_scores, expected_scores)
    constant = expected_scores.std() == 0 or scores.std() == 0
    return Differences(
        images=len(scores),
        mean_score_error=float(np.abs(relative).mean()),
        score_error=float(np.abs(relative).max()),
        score_shift=float(relative.mean()),
        map_error=float(np.mean(map_errors)),
        correlation=0.0 if constant else float(np.corrcoef(expected_scores, scores)[0, 1]),
    )
