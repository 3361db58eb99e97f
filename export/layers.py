"""Layers of a graph that compute with fewer bits: the convolutions and what lies between them, and transformers."""

from __future__ import annotations

from typing import Any

import onnx

WEIGHTED = ("Conv", "ConvTranspose")
METRIC, DAMPED = "metric", "squared_length"  # constants of edgead.workstation.backbones.patch_features
ACTIVATIONS = ("Clip", "Relu", "LeakyRelu")


def layers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Convolutions in the order of the graph, named after their torch modules.

    Products of features are none, the metric among them: they are the heads that make scores (whitening, adaptor,
    discriminator), cheap beside the convolutions. With 8 bits their error would be the score's, and so would the
    clipping at what good images show.
    """
    weights = {tensor.name for tensor in model.graph.initializer} - {METRIC}
    return {
        node.input[1].removesuffix(".weight"): node
        for node in model.graph.node
        if node.op_type in WEIGHTED and node.input[1] in weights
    }


def depthwise(model: onnx.ModelProto) -> set[str]:
    """Names of the layers that have one kernel for each channel alone."""
    sides = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return {
        name
        for name, node in layers(model).items()
        if node.op_type == "Conv"
        and sides[node.input[1]][1] == 1
        and attributes(node).get("group", 1) == sides[node.input[1]][0]
    }


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node that are given, by name."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def body(model: onnx.ModelProto) -> set[str]:
    """Names of the layers' nodes, of all nodes that they depend on, and of the activations right behind them.

    What follows the last layers (pooling, distances) is left out: it costs little, and its error would be the score's.
    """
    producers = _producers(model)
    found = _with_ancestors(model, list(layers(model).values()))
    for node in model.graph.node:
        source = producers.get(node.input[0]) if node.op_type in ACTIVATIONS else None
        if source is not None and source.name in found:
            found.add(node.name)
    return found


def with_followers(model: onnx.ModelProto, in_float: set[str]) -> set[str]:
    """Names of layers' nodes that stay in float, and of the activations, sums and pools right behind them.

    In 8 bits those would have an error of their own, which a layer in float would change nothing of. A sum stays in
    float where one of the layers that it adds does.
    """
    producers, found = _producers(model), set(in_float)
    for node in model.graph.node:  # in the order of computation
        before = [producers[name] for name in node.input if name in producers]
        weighted = [one for one in before if one.op_type in WEIGHTED]
        if node.op_type not in WEIGHTED and any(one.name in found for one in weighted or before):
            found.add(node.name)
    return found


def transformer(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes of a transformer, and of all that they depend on; empty where there is none.

    A block adds what it computes to what its normalisation read. Weights of its products have no names any more: the
    exporter has transposed them. One that reads damped features, which `inp_lite` has, is none: it makes the scores,
    and the squared lengths before it would leave the range of half floats.
    """
    damped = _after(model, DAMPED)
    normalised = {node.input[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
    added = [node for node in model.graph.node if node.op_type == "Add" and normalised.intersection(node.input)]
    return _with_ancestors(model, [node for node in added if node.output[0] not in damped])


def matches(model: onnx.ModelProto) -> set[str]:
    """Names of the softmaxes of a network of convolutions, and of what lies between them and the layers before.

    They decide by differences of products that nothing scales: of features that a half float holds, products are not.
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
    """Names of all that is computed of the constants of this name, in any part of the network."""
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
