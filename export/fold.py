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

    input: str
    output: str
    mean: float
    std: float

    def quantisation(self) -> dict[str, Any]:
        """As ONNX Runtime's quantizer takes it in TensorQuantOverrides."""
        scale, zero_point = np.array(1 / self.std, np.float32), np.array(self.mean, np.uint8)
        return {"quant_type": QuantType.QUInt8, "scale": scale, "zero_point": zero_point}


def find_normalisation(model: onnx.ModelProto) -> Normalisation | None:
    """Find Cast, Sub and Div with constants that are such a normalisation."""
    producers = {output: node for node in model.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for div in model.graph.node:
        sub = producers.get(div.input[0]) if div.op_type == "Div" else None
        cast = producers.get(sub.input[0]) if sub is not None and sub.op_type == "Sub" else None
        if sub is None or cast is None or cast.op_type != "Cast":
            continue
        if sub.input[1] in constants and div.input[1] in constants:
            mean = np.unique(numpy_helper.to_array(constants[sub.input[1]]))
            std = np.unique(numpy_helper.to_array(constants[div.input[1]]))
            if mean.size == std.size == 1 and mean[0] == np.round(mean[0]) and 0 <= mean[0] <= 255:
                return Normalisation(cast.input[0], div.output[0], float(mean[0]), float(std[0]))
    return None


def fold_normalisation(model: onnx.ModelProto, normalisation: Normalisation) -> None:
    """Remove Cast, Sub, Div and QuantizeLinear where nothing but the quantised image is used."""
    graph = model.graph
    readers = [node for node in graph.node if normalisation.output in node.input]
    if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
        return  # a layer that stays in float reads it
    quantize = readers[0]
    producers = {output: node for node in graph.node for output in node.output}
    div = producers[normalisation.output]
    sub = producers[div.input[0]]
    for node in graph.node:
        node.input[:] = [normalisation.input if name == quantize.output[0] else name for name in node.input]
    for node in (quantize, div, sub, producers[sub.input[0]]):
        graph.node.remove(node)
