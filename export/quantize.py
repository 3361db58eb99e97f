"""INT8 quantisation of a float graph into a QDQ graph, calibrated on real images of good parts."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from edgead.export.fuse_normalization import find_normalisation, fold_normalisation
from edgead.export.layers import ACTIVATIONS, WEIGHTED, body, depthwise, layers, with_followers
from edgead.export.rounding import Moments, round_weights
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgead.dataset.folders import Progress
from edgead.errors import SettingsError

# Fewer images do not cover the range of every channel; more than the maximum only add time.
MIN_IMAGES = 16
MAX_IMAGES = 96
# Number of images whose tensors are in memory together.
_CHUNK = 4

QUANTISED = (*WEIGHTED, *ACTIVATIONS, "Add", "Mul", "Concat", "MaxPool", "AveragePool", "Resize")


@dataclass(frozen=True, slots=True)
class Scheme:
    """Quantisation scheme of activations; weights are always signed, symmetric and scaled per channel.

    Weights have 7 bits, as sums of two 8-bit products overflow the 16 bits of x86 CPUs without VNNI (vpmaddubsw), so
    that scores would depend on the CPU. Depthwise layers, which do not use these sums, have 8.
    """

    activation: QuantType
    symmetric: bool


SCHEMES = {
    # A zero point of 0 on unsigned numbers clips at 0 and at the largest value, so that ReLU and ReLU6 are free.
    "int8": Scheme(QuantType.QUInt8, symmetric=False),
    # TensorRT accepts only signed numbers without a zero point.
    "int8_symmetric": Scheme(QuantType.QInt8, symmetric=True),
}


def measure_ranges(model: onnx.ModelProto, images: Sequence[np.ndarray], progress: Progress) -> TensorsData:
    """Run the float graph over real images and find the range of every tensor, from its lowest to its highest value.

    `images` (sequence of ndarray of shape (h, w, 3), uint8, RGB): preprocessed images of good parts, at least
        `MIN_IMAGES`.
    Raises SettingsError: there are too few images.
    """
    if len(images) < MIN_IMAGES:
        raise SettingsError(
            f"int8 is calibrated on real images of good parts, at least {MIN_IMAGES}, found {len(images)}: give more"
        )
    name = model.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        graph, augmented = Path(folder) / "float.onnx", f"{folder}/augmented.onnx"
        onnx.save(model, graph)
        calibrator = create_calibrator(graph, QUANTISED, augmented, calibrate_method=CalibrationMethod.MinMax)
        for start in range(0, len(images), _CHUNK):
            stop = min(start + _CHUNK, len(images))
            batch = [images[i] for i in range(start, stop)]
            with redirect_stdout(io.StringIO()):  # to which it prints each step
                calibrator.collect_data(_Reader(name, batch))
            progress(stop, len(images))
        with redirect_stdout(io.StringIO()):
            return calibrator.compute_data()


class _Reader(CalibrationDataReader):
    def __init__(self, name: str, images: list[np.ndarray]):
        self._feeds = iter([{name: image[None]} for image in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantize(
    model: onnx.ModelProto,
    ranges: TensorsData,
    scheme: Scheme,
    float_layers: Sequence[str] = (),
    moments: Moments | None = None,
) -> onnx.ModelProto:
    """Insert QuantizeLinear and DequantizeLinear around all nodes that compute with 8 bits.

    So are quantised the layers with weights and the nodes between them. Nodes after the last layer (pooled features,
    distances) stay in float: they cost little, and their errors would directly be errors of the score.

    `model`: float graph, which is not changed.
    `ranges`: see `measure_ranges`.
    `float_layers`: names of layers (`layers`) that stay in float.
    `moments`: see `edgead.export.rounding`; by default each weight is rounded to the nearest of 7 bits.
    """
    kept = set(float_layers)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    if layers(model).keys() - kept:
        result = _quantise_body(result, ranges, scheme, kept)
    if moments is not None:
        round_weights(result, model, moments)
    onnx.checker.check_model(result)
    return result


def _quantise_body(model: onnx.ModelProto, ranges: TensorsData, scheme: Scheme, kept: set[str]) -> onnx.ModelProto:
    """Quantise the nodes that `body` names, except the `kept` layers; the model is changed."""
    known = layers(model)
    inside = body(model) - with_followers(model, {node.name for name, node in known.items() if name in kept})
    options: dict[str, Any] = {
        "ActivationSymmetric": scheme.symmetric,
        "QuantizeBias": not scheme.symmetric,  # TensorRT refuses int32 biases, ONNX Runtime wants them
    }
    eight_bits = {known[name].input[1]: [{"axis": 0, "reduce_range": False}] for name in depthwise(model) - kept}
    options["TensorQuantOverrides"] = eight_bits
    normalisation = None if scheme.symmetric else find_normalisation(model)
    if normalisation is not None:
        options["TensorQuantOverrides"][normalisation.output] = [normalisation.quantisation()]
    constants = {constant.name for constant in model.graph.initializer}

    def takes(node: onnx.NodeProto) -> bool:
        # TensorRT accepts 8-bit constants only as weights of layers, not as the factor of a product.
        scaled = scheme.symmetric and node.op_type in ("Add", "Mul") and constants.intersection(node.input)
        return node.op_type in QUANTISED and not scaled

    if scheme.symmetric:
        # Without this, values would be quantised between a layer and its ReLU, which prevents their fusion.
        options["OpTypesToExcludeOutputQuantization"] = list(QUANTISED)
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=scheme.activation,
        tensors_range=ranges,
        nodes_to_quantize=[node.name for node in model.graph.node if node.name in inside and takes(node)],
        nodes_to_exclude=[],
        op_types_to_quantize=list(QUANTISED),
        extra_options=options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    if normalisation is not None:
        fold_normalisation(result, normalisation)
    return result
