"""Reference network of an imported model: the graph in the model itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.graph import Graph
from edgead.runtime import open_runtime

IMPORTED = "imported"  # value of the manifest's `detector`


class ImportedNetwork(nn.Module):
    """Substitute for the torch network of a model without one: an imported one, or one learnt in another precision.

    It runs an fp32 ONNX graph node by node, in ONNX Runtime without optimisations, as the reference for engines. An
    OpenVINO IR is run by OpenVINO, and graphs of other precisions by ONNX Runtime as usual: then only preprocessing,
    scores and maps are compared.

    Raises ArtifactError: the graph cannot be used.
    """

    def __init__(self, artifact: Artifact):
        super().__init__()
        self._outputs = list(artifact.manifest.outputs)
        graph = artifact.learnt_graph
        if graph.constants is None and graph.precision == "fp32":
            self._run = _plainly(graph, artifact.manifest.input, self._outputs)
            return
        engine = "auto" if graph.constants else "onnxruntime"
        runtime = open_runtime(artifact, engine, precision=graph.precision)
        self._run = lambda images: [np.array(runtime.run(images)[name]) for name in self._outputs]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the graph on images, uint8 (1, h, w, 3) RGB; returns the outputs that `Manifest.outputs` names."""
        return tuple(map(torch.from_numpy, self._run(images.numpy())))


def _plainly(graph: Graph, image: str, outputs: list[str]) -> Callable[[np.ndarray], list[np.ndarray]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(graph.read_whole(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  ONNX Runtime's errors share no base of their own
        raise ArtifactError(f"{graph.path} cannot be opened by ONNX Runtime: {error}") from error
    return lambda images: session.run(outputs, {image: images})
