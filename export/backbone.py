"""Frozen backbones as ONNX: exported from torch; these and the packaged backbones are converted to any precision.

A graph takes an image and the learnt scale and metric as inputs, and returns patch features. It contains nothing learnt
from good images, so that one file serves every product. The int8 graphs are quantised once, with ranges measured on
noise of all scales and contrasts; see benchmarks/RESULTS.md for a comparison with ranges measured on good images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
from edgead.export.float16 import to_float16
from edgead.export.graph import trace
from edgead.export.quantize import SCHEMES, measure_ranges, quantize
from edgead.export.rounding import second_moments
from safetensors.torch import save as serialize

from edgead.adapt.frozen_backbone import FrozenBackbone
from edgead.artifact.inputs import Preprocessing
from edgead.artifact.onnx_file import with_constants
from edgead.workstation.backbones.patch_features import PatchFeatures
from edgead.workstation.backbones.pretrained import build_backbone, layer_shapes

_NOISE = (448, 448)  # sides of the noise, if those of the graph are free
_NOISE_IMAGES = 24
_WEIGHTS = "weights.safetensors"


def patch_network(
    name: str,
    layers: Sequence[str],
    image_size: tuple[int, int],
    *,
    weights: Path | None = None,
    pretrained: bool = True,
    channels: int = 3,
) -> PatchFeatures:
    """Build the torch network of a backbone's patch features before training; see `build_backbone` for parameters."""
    backbone = build_backbone(
        name, layers, image_size=image_size, weights=weights, pretrained=pretrained, channels=channels
    )
    channels_of = [shape[0] for shape in layer_shapes(backbone, image_size)]
    return PatchFeatures(backbone, channels_of, damp_length=True, whiten=True).eval()


def export_backbone(network: PatchFeatures, spec: Preprocessing, precision: str = "fp32") -> FrozenBackbone:
    """Export a torch network for inputs of one kind and size.

    `precision`: {"fp32", "fp16", "int8", "int8_symmetric"}.
    """
    model = trace(network, list(network.learnt), spec)
    return convert(FrozenBackbone(model.SerializeToString(), tuple(network.channels)), precision)


def convert(fp32: FrozenBackbone, precision: str) -> FrozenBackbone:
    """Convert a backbone to another precision, without torch."""
    model = in_precision(onnx.load_from_string(fp32.graph), precision, fp32.channels)
    return FrozenBackbone(model.SerializeToString(), fp32.channels, precision)


def write_weights(network: PatchFeatures, folder: Path) -> None:
    """Write the weights of a network, without arrays learnt from good images."""
    weights = {name: each for name, each in network.state_dict().items() if name not in network.learnt}
    (folder / _WEIGHTS).write_bytes(serialize(weights))


def in_precision(model: onnx.ModelProto, precision: str, channels: tuple[int, ...]) -> onnx.ModelProto:
    """Convert the graph of a backbone to another precision."""
    if precision == "fp32":
        return model
    neutral = FrozenBackbone(b"", channels).neutral
    if precision == "fp16":
        return _with_inputs(to_float16(_with_constants(model, neutral)), model)
    taught = _with_constants(_with_sides(model), neutral)
    images = noise(*(side.dim_value for side in taught.graph.input[0].type.tensor_type.shape.dim[1:3]))
    ranges = measure_ranges(taught, images, lambda done, total: None)
    return quantize(model, ranges, SCHEMES[precision], moments=second_moments(taught, images))


def _with_constants(model: onnx.ModelProto, arrays: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    return onnx.load_from_string(with_constants(model.SerializeToString(), arrays))


def _with_inputs(model: onnx.ModelProto, of: onnx.ModelProto) -> onnx.ModelProto:
    """Turn constants of a graph back into inputs if they are inputs of the graph `of`."""
    inputs = {one.name: one for one in of.graph.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name not in inputs]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    del model.graph.input[:]
    model.graph.input.extend(inputs.values())
    return model


def noise(height: int, width: int) -> list[np.ndarray]:
    """Make noise images, uint8 RGB (h, w, 3), grey and coloured, with grains of 1 to 32 pixels and five contrasts."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(_NOISE_IMAGES):
        grain = 2 ** (number % 6)
        drawn = rng.normal(size=(max(1, height // grain), max(1, width // grain), 3 if number % 2 else 1)).astype(
            np.float32
        )
        drawn = np.broadcast_to(drawn, (*drawn.shape[:2], 3))
        spread = cv2.resize(np.ascontiguousarray(drawn), (width, height), interpolation=cv2.INTER_CUBIC)
        found.append(np.clip(128 + spread * (20 + 15 * (number % 5)), 0, 255).astype(np.uint8))
    return found


def _with_sides(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fix the free sides of the image."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for side, length in zip(fixed.graph.input[0].type.tensor_type.shape.dim[1:3], _NOISE, strict=True):
        side.dim_value = side.dim_value or length
    return fixed
