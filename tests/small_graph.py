"""A graph of two layers with a tail, small enough that every number of its quantised forms can be checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 16


def small_graph(
    path: Path,
    *,
    mean: float | tuple[float, float, float] = 127.0,
    spread: float = 1.0,
    cast_first: bool = True,
    pads: int = 1,
) -> onnx.ModelProto:
    """image -> normalise -> a (3 x 3) -> ReLU6 -> b (1 x 1) -> squared features; `spread` scales one channel of a."""
    side = SIZE - 2 + 2 * pads
    rng = np.random.default_rng(0)
    a = rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    a[0] *= spread
    constants = {
        "mean": np.broadcast_to(np.float32(mean), 3).reshape(1, 3, 1, 1),
        "std": np.full((1, 3, 1, 1), 128, np.float32),
        "a.weight": a,
        "a.bias": np.full(4, 1, np.float32),
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "b.weight": rng.normal(0, 0.3, (5, 4, 1, 1)).astype(np.float32),
        "b.bias": np.zeros(5, np.float32),
    }
    outer, inner = ("cast", "nchw") if cast_first else ("nchw", "cast")
    sources = {outer: "image", inner: outer}
    first = {
        "cast": helper.make_node("Cast", [sources["cast"]], ["cast"], name="cast", to=TensorProto.FLOAT),
        "nchw": helper.make_node("Transpose", [sources["nchw"]], ["nchw"], name="nchw", perm=[0, 3, 1, 2]),
    }
    nodes = [
        first[outer],
        first[inner],
        helper.make_node("Sub", [inner, "mean"], ["centred"], name="sub"),
        helper.make_node("Div", ["centred", "std"], ["normalised"], name="div"),
        helper.make_node("Conv", ["normalised", "a.weight", "a.bias"], ["a"], name="conv_a", pads=[pads] * 4),
        helper.make_node("Clip", ["a", "zero", "six"], ["relu6"], name="relu6"),
        helper.make_node("Conv", ["relu6", "b.weight", "b.bias"], ["b"], name="conv_b"),
        helper.make_node("Mul", ["b", "b"], ["squared"], name="tail"),
        helper.make_node("Transpose", ["squared"], ["features"], name="nhwc", perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", side, side, 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.save(model, path)
    return model


def as_inputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The same graph with some of its constants as inputs after the image, in this order."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in names:
        copy.graph.initializer.remove(constants[name])
        copy.graph.input.append(helper.make_tensor_value_info(name, constants[name].data_type, constants[name].dims))
    return copy


def small_images(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(1).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8))
