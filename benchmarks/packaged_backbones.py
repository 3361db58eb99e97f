"""Packaged backbones: make their ONNX files, fp32 and int8, and the fp32 nodes for colours with relief.

    python -m benchmarks packaged_backbones [--folder edgead/backbones]

The int8 graph is laid out for CPUs: the same sums in fewer and faster steps. ONNX Runtime convolves 8 bits with
channels last, and fast where channels come in fours. An image has three, so its first convolution took a tenth of the
network's time, and a fifth went into features that were turned around between nodes. Here four pixels side by side are
one place of twelve channels, which gives two places of the output; that moves no byte, and all sums of 8 bits are the
same. Features stay with channels last up to the metric, and those of the coarser layer are standardised before they are
enlarged.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from edgead.export.backbone import in_precision, patch_network
from edgead.export.graph import trace
from onnx import helper, numpy_helper

from edgead.adapt.frozen_backbone import DESCRIPTION, LAYERS, LITE, PACKAGED, PAIRS, WEIGHTS_OF
from edgead.artifact.inputs import Preprocessing

_TRACED = (448, 320)  # sides of the images with which a graph with free sides is traced
_FREE = (16, 512)  # step of a free side in pixels, and largest number of steps
_OF_PAIRS = f"{WEIGHTS_OF}{WEIGHTS_OF}"
_BLOCK = 4  # pixels that are one place
_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]  # from channels first to last, and back


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks packaged_backbones", description=__doc__)
    parser.add_argument("--folder", type=Path, default=PACKAGED, help="by default that of the package")
    torch.manual_seed(0)
    write_packaged(parser.parse_args(arguments).folder)


def write_packaged(folder: Path) -> None:
    """Write the package's backbones: fp32 and int8, and the fp32 nodes for colours with relief."""
    described = {}
    for name in LITE:
        spec = Preprocessing(image_size=_TRACED)
        network = patch_network(name, LAYERS, _TRACED)
        fp32 = trace(network, list(network.learnt), spec, free=_FREE)
        pairs_of = patch_network(name, LAYERS, _TRACED, channels=6)
        pairs = trace(pairs_of, list(pairs_of.learnt), spec.model_copy(update={"colour": "rgb_relief"}), free=_FREE)
        _share_weights(pairs, fp32)
        int8 = for_cpus(in_precision(fp32, "int8", tuple(network.channels)), network.channels)
        files = {"fp32": fp32, PAIRS: pairs, "int8": int8}
        hashes = {}
        for kind, model in files.items():
            del model.graph.value_info[:]
            content = model.SerializeToString(deterministic=True)
            (folder / f"{name}.{kind}.onnx").write_bytes(content)
            hashes[kind] = hashlib.sha256(content).hexdigest()
        described[name] = {"channels": network.channels, "sha256": hashes}
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def _share_weights(model: onnx.ModelProto, other: onnx.ModelProto) -> None:
    """Remove the initializers of a network of pairs that equal those of the single-image network; use their names."""
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in other.graph.initializer}
    named = {tensor.name: tensor.name.replace(_OF_PAIRS, WEIGHTS_OF, 1) for tensor in model.graph.initializer}
    own = [
        tensor
        for tensor in model.graph.initializer
        if not tensor.name.startswith(_OF_PAIRS)
        or not np.array_equal(known.get(named[tensor.name], np.nan), numpy_helper.to_array(tensor))
    ]
    shared = named.keys() - {tensor.name for tensor in own}
    del model.graph.initializer[:]
    model.graph.initializer.extend(own)
    for node in model.graph.node:
        node.input[:] = [named[name] if name in shared else name for name in node.input]


def for_cpus(model: onnx.ModelProto, channels: Sequence[int]) -> onnx.ModelProto:
    """Lay out the int8 graph of `edgead.workstation.backbones.patch_features.PatchFeatures` with two layers.

    `model`: not changed. Its first convolution has a kernel of 3 x 3 at every second pixel.
    `channels`: of the finer layer and the coarser one.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _take_blocks(result.graph)
    _end_with_channels_last(result.graph, channels)
    onnx.checker.check_model(result)
    return result


def _take_blocks(graph: onnx.GraphProto) -> None:
    """Let the first convolution see blocks of pixels as places, and give a place for every second pixel of them."""
    known = {tensor.name: tensor for tensor in graph.initializer}
    makes = {output: node for node in graph.node for output in node.output}
    [turn] = (node for node in graph.node if graph.input[0].name in node.input)
    [read] = (node for node in graph.node if turn.output[0] in node.input)
    [conv] = (node for node in graph.node if read.output[0] in node.input)
    [write] = (node for node in graph.node if conv.output[0] in node.input)
    weight, bias = (makes[name] for name in conv.input[1:])
    kernel = numpy_helper.to_array(known[weight.input[0]])
    count, colours = kernel.shape[:2]
    stride, steps = 2, _BLOCK // 2
    blocks = np.zeros((steps, count, _BLOCK, colours, 3, 2), kernel.dtype)
    for step in range(steps):
        for x in range(3):
            block, pixel = divmod(stride * step + x, _BLOCK)
            blocks[step, :, pixel, :, :, block] = kernel[..., x]
    _replace(known[weight.input[0]], blocks.reshape(steps * count, _BLOCK * colours, 3, 2))
    for name in (*weight.input[1:], *bias.input):
        _replace(known[name], np.tile(numpy_helper.to_array(known[name]), steps))
    options = {option.name: option for option in conv.attribute}
    top, left, bottom, _ = options["pads"].ints
    assert (list(options["strides"].ints), left) == ([stride, stride], 0)
    for name, value in {"strides": [stride, 1], "kernel_shape": [3, 2], "pads": [top, 0, bottom, 1]}.items():
        options[name].ints[:] = value
    taken = _constant(graph, "blocks", [0, 0, -1, _BLOCK * colours])
    given = _constant(graph, "pixels", [0, 0, -1, count])
    whole, write.output[0] = write.output[0], f"{write.output[0]}_blocks"
    image, turn.input[0] = turn.input[0], "image_blocks"
    make = helper.make_node
    again = [
        make("Transpose", [write.output[0]], ["blocks_last"], perm=_LAST),
        make("Reshape", ["blocks_last", given], ["pixels_last"]),
        make("Transpose", ["pixels_last"], [whole], perm=_FIRST),
    ]
    added = {turn.name: [make("Reshape", [image, taken], ["image_blocks"]), turn], write.name: [write, *again]}
    nodes = [each for node in graph.node for each in added.get(node.name, [node])]
    del graph.node[:]
    graph.node.extend(nodes)


def _end_with_channels_last(graph: onnx.GraphProto, channels: Sequence[int]) -> None:
    """Write the nodes from the pooled layers to the features again, with channels last."""
    pooled = [node for node in graph.node if node.op_type == "AveragePool"]
    needed = _before(graph, [node.output[0] for node in pooled])
    nodes = [node for node in graph.node if any(output in needed for output in node.output)]
    dim, make, every = _constant(graph, "last_axis", [-1]), helper.make_node, _constant(graph, "of_layers", channels)
    split, scaled, (fine, coarse) = [], [], pooled
    for name, parts in (("mean", every), ("inverse_std", every), ("squared_length", _constant(graph, "each", [1, 1]))):
        split.append(make("Split", [name, parts], [f"{name}_fine", f"{name}_coarse"], axis=0))
    for layer, node in (("fine", fine), ("coarse", coarse)):
        nodes += [
            make("Transpose", [node.output[0]], [f"{layer}_last"], perm=_LAST),
            make("Sub", [f"{layer}_last", f"mean_{layer}"], [f"{layer}_centred"]),
            make("Mul", [f"{layer}_centred", f"inverse_std_{layer}"], [f"{layer}_standard"]),
        ]
    nodes += [
        make("Shape", ["fine_standard"], ["grid"], start=0, end=3),
        make("Concat", ["grid", _constant(graph, "coarse_channels", channels[1:])], ["enlarged"], axis=0),
        make("Resize", ["coarse_standard", "", "", "enlarged"], ["coarse_enlarged"], mode="linear"),
    ]
    for layer, standard in (("fine", "fine_standard"), ("coarse", "coarse_enlarged")):
        scaled.append(f"{layer}_damped")
        nodes += [
            make("ReduceSumSquare", [standard, dim], [f"{layer}_squared"], keepdims=1),
            make("Add", [f"{layer}_squared", f"squared_length_{layer}"], [f"{layer}_long"]),
            make("Sqrt", [f"{layer}_long"], [f"{layer}_length"]),
            make("Reciprocal", [f"{layer}_length"], [f"{layer}_scale"]),
            make("Mul", [standard, f"{layer}_scale"], [scaled[-1]]),
        ]
    nodes += [
        make("Concat", scaled, ["damped"], axis=-1),
        make("Squeeze", ["metric", _constant(graph, "height_width", [2, 3])], ["metric_rows"]),
        make("Transpose", ["metric_rows"], ["metric_columns"], perm=[1, 0]),
        make("MatMul", ["damped", "metric_columns"], [graph.output[0].name]),
    ]
    del graph.node[:]
    graph.node.extend([*split, *nodes])
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _before(graph: onnx.GraphProto, names: Sequence[str]) -> set[str]:
    """Names of all that is computed for some tensors, with them."""
    makes = {output: node for node in graph.node for output in node.output}
    found, open_names = set(), list(names)
    while open_names:
        name = open_names.pop()
        if name in makes and name not in found:
            found.add(name)
            open_names += makes[name].input
    return found


def _constant(graph: onnx.GraphProto, name: str, values: Sequence[int]) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def _replace(tensor: onnx.TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
