"""Small graphs as other tools export them, in which every number can be computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 32


def anomalib_like(
    path: Path,
    *,
    side: int | None = SIZE,
    cut_off: bool = False,
    outputs: tuple[str, ...] = ("pred_score", "pred_label", "anomaly_map", "pred_mask"),
    properties: dict[str, str] | None = None,
) -> Path:
    """A graph with the inputs and outputs of anomalib 2's export: `input`, float NCHW from 0 to 1, any batch.

    It resizes to SIZE x SIZE and normalises within. The map is the mean over channels of how far a pixel is from grey,
    the score the mean of the map. Without `side` it takes any size. `cut_off` brings scores to 0..1, as anomalib's
    post-processing does.
    """
    sides: list[str | int] = ["height", "width"] if side is None else [side, side]
    constants = {
        "mean": np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1),
        "std": np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1),
        "resized": np.array([SIZE, SIZE], np.int64),
        "roi": np.array([], np.float32),
        "half": np.array(0.5, np.float32),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "hundred": np.array(100, np.float32),
    }
    nodes = [
        helper.make_node("Shape", ["input"], ["batch_and_channels"], end=2),
        helper.make_node("Concat", ["batch_and_channels", "resized"], ["sizes"], axis=0),
        helper.make_node("Resize", ["input", "roi", "", "sizes"], ["resized_input"], mode="linear"),
        helper.make_node("Sub", ["resized_input", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normalised"]),
        helper.make_node("Abs", ["normalised"], ["far"]),
        helper.make_node("ReduceMean", ["far"], ["raw_map"], axes=[1], keepdims=1),
        helper.make_node("ReduceMean", ["raw_map"], ["raw_score"], axes=[1, 2, 3], keepdims=0),
    ]
    for what in ("map", "score"):
        name = {"map": "anomaly_map", "score": "pred_score"}[what]
        if cut_off:
            nodes.append(helper.make_node("Mul", [f"raw_{what}", "hundred"], [f"large_{what}"]))
            nodes.append(helper.make_node("Clip", [f"large_{what}", "zero", "one"], [name]))
        else:
            nodes.append(helper.make_node("Identity", [f"raw_{what}"], [name]))
    nodes += [
        helper.make_node("Greater", ["pred_score", "half"], ["pred_label"]),
        helper.make_node("Greater", ["anomaly_map", "half"], ["pred_mask"]),
    ]
    values = {
        "pred_score": (TensorProto.FLOAT, ["batch_size"]),
        "pred_label": (TensorProto.BOOL, ["batch_size"]),
        "anomaly_map": (TensorProto.FLOAT, ["batch_size", 1, SIZE, SIZE]),
        "pred_mask": (TensorProto.BOOL, ["batch_size", 1, SIZE, SIZE]),
    }
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", 3, *sides])],
        [helper.make_tensor_value_info(name, *values[name]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="pytorch",
        producer_version="2.13",
    )
    helper.set_model_props(model, properties or {})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def plain(
    path: Path,
    *,
    dtype: int = TensorProto.FLOAT,
    shape: tuple[str | int, ...] = (1, SIZE, SIZE, 3),
    outputs: tuple[str, ...] = ("heat",),
    properties: dict[str, str] | None = None,
) -> Path:
    """A graph that gives its input's first channel, times 1, 2, 3, ... for each output: of no tool that is known."""
    channels_last = shape[-1] == 3
    axis = 3 if channels_last else 1
    nodes = [
        helper.make_node("Cast", ["given"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["floats", "first"], ["channel"], axis=axis),
    ]
    constants = {"first": np.array(0, np.int64)}
    for number, name in enumerate(outputs, 1):
        constants[f"times_{name}"] = np.array(number, np.float32)
        nodes.append(helper.make_node("Mul", ["channel", f"times_{name}"], [name]))
    sides = [side for number, side in enumerate(shape) if number != axis]
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("given", dtype, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, properties or {})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def expected_map(image: np.ndarray) -> np.ndarray:
    """What `anomalib_like` makes of an image, uint8 RGB (SIZE, SIZE, 3), in float64."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return np.abs((image / 255 - mean) / std).mean(axis=2)
