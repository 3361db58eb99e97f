"""Fusion of the normalisation into the quantisation of the image, which already has 8 bits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType

# Mean and deviation of the EfficientNet-Lite networks, which map 8-bit numbers to -1 to 1.
SHARED_MEAN, SHARED_STD = 127.0, 128.0


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Normalisation (x - mean) / std of a uint8 x, with one std and one integer mean for all channels.

    DequantizeLinear computes the same with scale 1 / std and zero point mean, so the normalised image is quantised
    without any error. EfficientNet-Lite networks have such a one, others may get it from `share_normalisation`.
    """

    cast: str
    output: str
    mean: float
    std: float

    def quantisation(self) -> dict[str, Any]:
        """Entry for TensorQuantOverrides of ONNX Runtime's quantizer."""
        scale, zero_point = np.array(1 / self.std, np.float32), np.array(self.mean, np.uint8)
        return {"quant_type": QuantType.QUInt8, "scale": scale, "zero_point": zero_point}


def find_normalisation(model: onnx.ModelProto) -> Normalisation | None:
    """Find Cast, Sub and Div with constants that form such a normalisation; a Transpose may be between them."""
    producers = {output: node for node in model.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for div in model.graph.node:
        sub = producers.get(div.input[0]) if div.op_type == "Div" else None
        if sub is None or sub.op_type != "Sub" or not {sub.input[1], div.input[1]} <= constants.keys():
            continue
        source = producers.get(sub.input[0])
        if source is not None and source.op_type == "Transpose" and source.input[0] in producers:
            source = producers[source.input[0]]
        mean = np.unique(numpy_helper.to_array(constants[sub.input[1]]))
        std = np.unique(numpy_helper.to_array(constants[div.input[1]]))
        if source is not None and source.op_type == "Cast" and mean.size == std.size == 1:
            if mean[0] == np.round(mean[0]) and 0 <= mean[0] <= 255:
                return Normalisation(source.name, div.output[0], float(mean[0]), float(std[0]))
    return None


def fold_normalisation(model: onnx.ModelProto, normalisation: Normalisation) -> None:
    """Remove Cast, Sub, Div and QuantizeLinear if only the quantised image is used."""
    graph = model.graph
    readers = [node for node in graph.node if normalisation.output in node.input]
    if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
        return  # a layer in float reads the normalised image
    quantize = readers[0]
    producers = {output: node for node in graph.node for output in node.output}
    cast = next(node for node in graph.node if node.name == normalisation.cast)
    div = producers[normalisation.output]
    sub = producers[div.input[0]]
    floats = (cast.output[0], sub.input[0], sub.output[0])
    if any(sum(name in node.input for node in graph.node) != 1 for name in floats):
        return  # the image has other uses
    # Without Cast the uint8 numbers replace the normalised and quantised ones.
    bypassed = {cast.output[0]: cast.input[0]}
    bypassed[quantize.output[0]] = bypassed.get(sub.input[0], sub.input[0])
    for node in graph.node:
        node.input[:] = [bypassed.get(name, name) for name in node.input]
    for node in (quantize, div, sub, cast):
        graph.node.remove(node)
    # Values in between are no longer float.
    for info in [info for info in graph.value_info if info.name in (*bypassed, sub.input[0])]:
        graph.value_info.remove(info)


def share_normalisation(model: onnx.ModelProto) -> None:
    """Give all channels of the image the same mean and deviation, if the first layers can absorb the rest.

    (x - mean_c) / std_c = a_c (x - MEAN) / STD + b_c, and a_c and b_c go into weights and biases of the convolutions
    that read the normalised image. This is not possible with padding, which adds zeros after the normalisation, nor if
    other layers share the weights or biases, as the exporter stores equal constants once.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    for div in [node for node in model.graph.node if node.op_type == "Div"]:
        sub = producers.get(div.input[0])
        if sub is None or sub.op_type != "Sub" or not {sub.input[1], div.input[1]} <= constants.keys():
            continue
        mean, std = (numpy_helper.to_array(constants[node.input[1]]).astype(np.float64) for node in (sub, div))
        readers = [node for node in model.graph.node if div.output[0] in node.input]
        used = Counter(name for node in model.graph.node for name in node.input)
        alone = all(used[name] == 1 for node in readers for name in node.input[1:])
        if mean.shape == std.shape == (1, 3, 1, 1) and alone and all(_can_take_in(node, constants) for node in readers):
            for reader in readers:
                _take_in(reader, constants, SHARED_STD / std, (SHARED_MEAN - mean) / std)
            for node, value in ((sub, SHARED_MEAN), (div, SHARED_STD)):
                constants[node.input[1]].CopyFrom(
                    numpy_helper.from_array(np.full((1, 3, 1, 1), value, np.float32), node.input[1])
                )


def _can_take_in(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Conv" or len(node.input) < 3 or not set(node.input[1:]) <= constants.keys():
        return False
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    padded = any(attributes.get("pads", [0])) or attributes.get("auto_pad", b"NOTSET") != b"NOTSET"
    return not padded and attributes.get("group", 1) == 1


def _take_in(
    conv: onnx.NodeProto, constants: dict[str, onnx.TensorProto], factor: np.ndarray, summand: np.ndarray
) -> None:
    """Change a convolution of x into a convolution of `factor` x + `summand`, both by channel, (1, c, 1, 1)."""
    weight, bias = (numpy_helper.to_array(constants[name]).astype(np.float64) for name in conv.input[1:3])
    new_bias = bias + (weight * summand).sum(axis=(1, 2, 3))
    for name, value in ((conv.input[1], weight * factor), (conv.input[2], new_bias)):
        constants[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
