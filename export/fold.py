"""The image is made of 8-bit numbers already: a quantised graph need not make floats of them first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType


@dataclass(frozen=True, slots=True)
class Normalisation:
    """(x - mean) / std of a uint8 x, with one std and one whole mean for all channels.

    That is what DequantizeLinear computes with scale 1 / std and zero point mean, so the normalised image is quantised
    without any error. The EfficientNet-Lite networks have it, networks with a mean for each channel do not.
    """

    cast: str
    output: str
    mean: float
    std: float

    def quantisation(self) -> dict[str, Any]:
        """As ONNX Runtime's quantizer takes it in TensorQuantOverrides."""
        scale, zero_point = np.array(1 / self.std, np.float32), np.array(self.mean, np.uint8)
        return {"quant_type": QuantType.QUInt8, "scale": scale, "zero_point": zero_point}


def find_normalisation(model: onnx.ModelProto) -> Normalisation | None:
    """Find Cast, Sub and Div with constants that are such a normalisation; a Transpose may lie between them."""
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
    """Remove Cast, Sub, Div and QuantizeLinear where nothing but the quantised image is used."""
    graph = model.graph
    readers = [node for node in graph.node if normalisation.output in node.input]
    if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
        return  # a layer that stays in float reads it
    quantize = readers[0]
    producers = {output: node for node in graph.node for output in node.output}
    cast = next(node for node in graph.node if node.name == normalisation.cast)
    div = producers[normalisation.output]
    sub = producers[div.input[0]]
    # Without Cast the numbers come as uint8 to where the normalised and quantised ones were read.
    bypassed = {cast.output[0]: cast.input[0]}
    bypassed[quantize.output[0]] = bypassed.get(sub.input[0], sub.input[0])
    for node in graph.node:
        node.input[:] = [bypassed.get(name, name) for name in node.input]
    for node in (quantize, div, sub, cast):
        graph.node.remove(node)
    # What lies between is no longer float.
    for info in [info for info in graph.value_info if info.name in (*bypassed, sub.input[0])]:
        graph.value_info.remove(info)
