"""Export of a torch network to `model.onnx`: one file with fixed names and opset, checked before use."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from edgead.export.fuse_normalization import share_normalisation
from torch import Tensor, nn

from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Manifest, Preprocessing

OPSET = 18
_HOLDER = "network."  # prefix of all names within `_WithInputs`


def export_onnx(network: nn.Module, path: Path, manifest: Manifest) -> None:
    """Write a network as ONNX.

    `network`: network from uint8 RGB (n, h, w, 3), or float32 with full depth, to the float32 tensors that
        `manifest.outputs` names: one tensor, or a tuple.
    `path`: file, written atomically.
    `manifest`: names of input and output and the image size; `graph_properties` are copied into metadata_props. Buffers
        that the manifest lists as arrays of the fp32 graph become inputs after the image.
    """
    model = trace(network, manifest.learnt_graph.arrays, manifest.preprocessing, manifest.input, manifest.outputs)
    onnx.helper.set_model_props(model, manifest.graph_properties)
    temporary = path.with_name(f".{path.name}")
    onnx.save(model, temporary)
    temporary.replace(path)


def load_graph(artifact: Artifact, precision: str | None = None) -> onnx.ModelProto:
    """Load a graph, by default the one that the model was learnt with; learnt arrays become constants of the graph."""
    return onnx.load_from_string(artifact.graph(precision or artifact.manifest.learnt_in).read_whole())


def trace(
    network: nn.Module,
    arrays: Sequence[str],
    spec: Preprocessing,
    image: str = "image",
    outputs: Sequence[str] = ("features",),
    *,
    free: tuple[int, int] | None = None,
) -> onnx.ModelProto:
    """Trace a network to an ONNX graph.

    `arrays`: buffers that become inputs after the image.
    `spec`: preprocessing of the image.
    `image`: name of the first input.
    `free`: make the image's sides free: `(step, most)` allows multiples of `step` up to `most` x `step` pixels.
    """
    buffers = dict(network.named_buffers())
    # The values are one argument with its own structure, which must be absent if there are none.
    values: list[tuple[dict[int, Any], ...]] = [({},) * len(arrays)] if arrays else []
    # Two images, as with one the exporter would take the batch for a constant.
    dtype = torch.float32 if spec.keeps_depth else torch.uint8
    example = torch.zeros(2, *spec.image_size, spec.channels, dtype=dtype)
    sides: dict[int, Any] = {0: torch.export.Dim("batch")}
    if free is not None:
        step, most = free
        for side, name in ((1, "rows"), (2, "columns")):
            sides[side] = step * torch.export.Dim(name, min=2, max=most)
    with warnings.catch_warnings():
        # Notices on internals of torch and onnxscript, which a user cannot act on.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        program = torch.onnx.export(
            (_WithInputs(network, arrays) if arrays else network).eval(),
            (example, *(buffers[name].clone() for name in arrays)),
            dynamo=True,
            optimize=True,  # folds constants and fuses batch norms into convolutions
            verbose=False,
            opset_version=OPSET,
            # The exporter names outputs after operations, which may equal the name of an input, such as mean.
            input_names=[image, *(f"{_HOLDER}{name}" for name in arrays)],
            output_names=list(outputs),
            dynamic_shapes=(sides, *values),
            external_data=False,
        )
    assert program is not None  # with dynamo=True and no file the program is returned
    model = onnx.shape_inference.infer_shapes(program.model_proto, strict_mode=free is None)
    _forget_source(model.graph)
    _name_as_in_network(model.graph)
    share_normalisation(model)
    onnx.checker.check_model(model, full_check=free is None)
    return model


class _WithInputs(nn.Module):
    """Wrapper of a network; some buffers of the network become inputs after the image."""

    def __init__(self, network: nn.Module, names: Sequence[str]):
        super().__init__()
        self.network = network
        self._names = names

    def forward(self, image: Tensor, *values: Tensor) -> Any:
        return torch.func.functional_call(self.network, dict(zip(self._names, values, strict=True)), (image,))


def _name_as_in_network(graph: onnx.GraphProto) -> None:
    """Remove the prefix that `_WithInputs` adds to names of constants and inputs; later steps find layers by name."""
    held = [*graph.initializer, *graph.input]
    taken = {one.name.removeprefix(_HOLDER) for one in held if one.name.startswith(_HOLDER)}

    def renamed(name: str) -> str:
        return f"{name}.inner" if name in taken else name.removeprefix(_HOLDER)

    for one in (*held, *graph.value_info):
        one.name = renamed(one.name)
    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]


def _forget_source(graph: onnx.GraphProto) -> None:
    """Remove the exporter's notes on the source code, which contain paths of the training machine."""
    for noted in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del noted.metadata_props[:]
