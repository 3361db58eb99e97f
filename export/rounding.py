"""Rounding of weights up or down to minimise the error of a layer's sums, not of single weights.

The nearest step is the best for a single weight. What counts is the error e x of the sum, for a row of rounding errors
e and an input x; the mean square is e H e, with H the mean of x x. That is the layer-wise objective of Nagel et al.,
"Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020 (arXiv 2004.10568); the greedy search is
edgead's. Neighbouring inputs are similar, so errors of equal sign add up, and a depthwise kernel that detects edges
would respond to a plain surface.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from edgead.export.layers import attributes, depthwise, layers
from onnx import numpy_helper

from edgead.runtime.ort import WITHOUT

Moments = dict[str, np.ndarray]
"""By layer, the mean of x x over its inputs x: (1, n, n), or (channels, n, n) if each channel has its own kernel."""

# Few suffice, as inputs are similar between images and within one.
_MAX_IMAGES = 24
_POSITIONS = 200
# Longest row of weights. Moments of longer rows take too much time, and their rounding errors cancel anyway.
_MAX_INPUTS = 1536
# Largest weight of 7 bits, signed and symmetric, as the quantizer makes them, and of 8 bits for depthwise layers.
LARGEST, LARGEST_DEPTHWISE = 64, 127
# Share of the mean moment that is added to each input's own, so that inputs which are always 0 count a little.
_DAMPING = 1e-6


def second_moments(model: onnx.ModelProto, images: Sequence[np.ndarray]) -> Moments:
    """Run the float graph over real images, and average the products of each layer's inputs.

    `images` (sequence of ndarray of shape (h, w, 3), uint8, RGB): images, of which some are used.
    Returns second moments by layer, float64; other layers (transposed, in groups, with long rows) are left out.
    """
    known = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    alone = depthwise(model)
    nodes = {name: node for name, node in layers(model).items() if _is_plain(node, known[node.input[1]], name in alone)}
    with_inputs = onnx.ModelProto()
    with_inputs.CopyFrom(model)
    read = sorted({node.input[0] for node in nodes.values()})
    with_inputs.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in read)
    session = open_graph(with_inputs)
    rng = np.random.default_rng(0)
    found: Moments = {}
    chosen = range(0, len(images), -(-len(images) // _MAX_IMAGES))
    for i in chosen:
        tensors = dict(zip(read, session.run(read, {model.graph.input[0].name: images[i][None]}), strict=True))
        for name, node in nodes.items():
            moments = _moments(tensors[node.input[0]][0], node, known[node.input[1]], rng) / len(chosen)
            found[name] = found[name] + moments if name in found else moments
    return found


def round_weights(quantised: onnx.ModelProto, model: onnx.ModelProto, moments: Moments) -> None:
    """Round the weights of a quantised graph again, each up or down from the float graph's weight."""
    stored = {tensor.name: tensor for tensor in quantised.graph.initializer}
    exact = {tensor.name: tensor for tensor in model.graph.initializer}
    alone = depthwise(model)
    for layer, moment in moments.items():
        weight = stored.get(f"{layer}.weight_quantized")
        if weight is None:
            continue  # a layer that stays in float
        values = numpy_helper.to_array(exact[f"{layer}.weight"]).astype(np.float64)
        scale = numpy_helper.to_array(stored[f"{layer}.weight_scale"]).astype(np.float64)
        rows = values.reshape(len(values), -1) / scale.reshape(-1, 1)
        largest = LARGEST_DEPTHWISE if layer in alone else LARGEST
        rounded = up_or_down(rows, moment, largest).reshape(values.shape).astype(np.int8)
        weight.CopyFrom(numpy_helper.from_array(rounded, weight.name))


def up_or_down(rows: np.ndarray, moments: np.ndarray, largest: int = LARGEST) -> np.ndarray:
    """Round rows of weights so that e H e is small: greedy changes from the nearest steps until none lowers it.

    `rows` (ndarray of shape (rows, n), float64): weights in steps of the quantisation.
    `moments` (ndarray of shape (1 or rows, n, n), float64): H, one for all rows or one for each.
    Returns ndarray of shape (rows, n), float64: integers, each next to its weight, none above the largest.
    """
    count, inputs = rows.shape
    means = np.einsum("hnn->h", moments) / inputs
    matrices = moments + _DAMPING * means[:, None, None] * np.eye(inputs)
    of_row = np.arange(count) if len(matrices) > 1 else np.zeros(count, int)
    diagonal = np.einsum("hnn->hn", matrices)[of_row]
    down = np.floor(rows)
    rounded = np.clip(np.round(rows), -largest, largest)
    # One change of a row changes e H e by 2 step (H e)_j + H_jj.
    errors = rounded - rows
    products = np.einsum("on,onm->om", errors, matrices) if len(matrices) > 1 else errors @ matrices[0]
    every = np.arange(count)
    for _ in range(4 * inputs):  # a bound; it ends earlier, as each change lowers e H e
        steps = np.where(rounded > down, -1.0, 1.0)
        changes = np.where(np.abs(rounded + steps) <= largest, 2 * steps * products + diagonal, 0.0)
        best = changes.argmin(axis=1)
        step = np.where(changes[every, best] < -1e-9 * diagonal[every, best], steps[every, best], 0.0)
        if not step.any():
            break
        rounded[every, best] += step
        products += step[:, None] * matrices[of_row, best]
    return rounded


def open_graph(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Open a graph in memory with a detector's settings, on all cores."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, disabled_optimizers=WITHOUT)


def _is_plain(node: onnx.NodeProto, sides: Sequence[int], alone: bool) -> bool:
    given = attributes(node)
    single = alone or given.get("group", 1) == 1
    padded_as_said = given.get("auto_pad", b"NOTSET") == b"NOTSET"
    return node.op_type == "Conv" and single and padded_as_said and int(np.prod(sides[1:])) <= _MAX_INPUTS


def _moments(image: np.ndarray, node: onnx.NodeProto, sides: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Average x x over some positions of a layer's kernel on its input (c, h, w)."""
    given = attributes(node)
    (height, width), (deep, wide) = sides[2:], given.get("dilations", [1, 1])
    top, left, bottom, right = given.get("pads", [0] * 4)
    down, across = given.get("strides", [1, 1])
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right)))
    reach = (height - 1) * deep + 1, (width - 1) * wide + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))[:, ::down, ::across, ::deep, ::wide]
    places = rng.permutation(windows.shape[1] * windows.shape[2])[:_POSITIONS]
    rows, columns = np.unravel_index(places, windows.shape[1:3])
    seen = windows[:, rows, columns].reshape(len(image), len(places), -1).astype(np.float64)
    if given.get("group", 1) == 1:
        seen = seen.transpose(1, 0, 2).reshape(1, len(places), -1)
    return np.asarray(seen.transpose(0, 2, 1) @ seen / len(places))
