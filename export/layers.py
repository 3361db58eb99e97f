"""Selection of the layers that may compute with fewer bits: convolutions and nodes between them, and transformers."""

from __future__ import annotations

from typing import Any

import onnx

WEIGHTED = ("Conv", "ConvTranspose")
METRIC, DAMPED = "metric", "squared_length"  # constants of edgead.workstation.backbones.patch_features
ACTIVATIONS = ("Clip", "Relu", "LeakyRelu")


def layers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """List the convolutions by name of their torch module, in the order of the graph.

    Products of features, such as the metric, are excluded: they make scores (whitening, adaptor, discriminator) and are
    cheap compared with the convolutions. With 8 bits, rounding and clipping would directly be errors of the score.
    """
    weights = {tensor.name for tensor in model.graph.initializer} - {METRIC}
    return {
        node.input[1].removesuffix(".weight"): node
        for node in model.graph.node
        if node.op_type in WEIGHTED and node.input[1] in weights
    }


def depthwise(model: onnx.ModelProto) -> set[str]:
    """List the names of depthwise layers, with one kernel for each channel."""
    sides = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return {
        name
        for name, node in layers(model).items()
        if node.op_type == "Conv"
        and sides[node.input[1]][1] == 1
        and attributes(node).get("group", 1) == sides[node.input[1]][0]
    }


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the explicit attributes of a node, by name."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def body(model: onnx.ModelProto) -> set[str]:
    """List the names of the layers' nodes, of all nodes that they depend on, and of activations directly after them.

    Nodes after the last layers (pooling, distances) are left out: they cost little, and their errors would directly be
    errors of the score.
    """
    producers = _producers(model)
    found = _with_ancestors(model, list(layers(model).values()))
    for node in model.graph.node:
        source = producers.get(node.input[0]) if node.op_type in ACTIVATIONS else None
        if source is not None and source.name in found:
            found.add(node.name)
    return found


def with_followers(model: onnx.ModelProto, in_float: set[str]) -> set[str]:
    """List the names of layers' nodes that stay in float, and of activations, sums and pools directly after them.

    In 8 bits, these followers would have errors of their own, which would undo the benefit of the float layer. A sum
    stays in float if one of the layers that it adds does.
    """
    producers, found = _producers(model), set(in_float)
    for node in model.graph.node:  # in the order of computation
        before = [producers[name] for name in node.input if name in producers]
        weighted = [one for one in before if one.op_type in WEIGHTED]
        if node.op_type not in WEIGHTED and any(one.name in found for one in weighted or before):
            found.add(node.name)
    return found


def transformer(model: onnx.ModelProto) -> set[str]:
    """List the names of a transformer's nodes, and of all nodes that they depend on; empty if there is none.

    A transformer is recognised by blocks that add a result to the input of the block's normalisation, as the exporter
    transposes the weights of products and drops their names. A block on damped features does not count: it makes the
    scores, and the squared lengths before it would exceed the range of half floats.
    """
    damped = _after(model, DAMPED)
    normalised = {node.input[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
    added = [node for node in model.graph.node if node.op_type == "Add" and normalised.intersection(node.input)]
    return _with_ancestors(model, [node for node in added if node.output[0] not in damped])


def matches(model: onnx.ModelProto) -> set[str]:
    """List the names of softmaxes in a convolutional network, and of nodes between them and the layers before.

    Such softmaxes depend on differences of unscaled products of features, which exceed half floats unlike the features.
    """
    if transformer(model):
        return set()
    producers, found = _producers(model), set()
    pending = [node for node in model.graph.node if node.op_type == "Softmax"]
    while pending:
        node = pending.pop()
        if node.name not in found and node.op_type not in WEIGHTED:
            found.add(node.name)
            pending += [producers[name] for name in node.input if name in producers]
    return found


def _after(model: onnx.ModelProto, constant: str) -> set[str]:
    """List the names of all nodes that depend on constants of this name, in any part of the network."""
    found = {tensor.name for tensor in model.graph.initializer if tensor.name.rpartition(".")[2] == constant}
    for node in model.graph.node:  # in the order of computation
        if found.intersection(node.input):
            found.update(node.output)
    return found


def _with_ancestors(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> set[str]:
    producers = _producers(model)
    found: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node.name not in found:
            found.add(node.name)
            pending += [producers[name] for name in node.input if name in producers]
    return found


def _producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}
