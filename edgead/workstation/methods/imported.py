"""The network of a model that was imported: its graph as it is in the model, run without optimisations."""

from __future__ import annotations

import onnxruntime
import torch
from torch import Tensor, nn

from edgead.artifact.folder import Artifact, ArtifactError

IMPORTED = "imported"  # the manifest's `detector`


class ImportedNetwork(nn.Module):
    """Stands for the torch network that an imported model does not have.

    There are no weights in it: its graph is what was imported, and engines are compared with it where they compute it
    node by node, as it is written.

    Raises
    ------
    ArtifactError
        The graph cannot be used.
    """

    def __init__(self, artifact: Artifact):
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        graph = artifact.graph("fp32")
        content = graph.read_whole()
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  ONNX Runtime's errors share no base of their own
            raise ArtifactError(f"{graph.path} cannot be opened by ONNX Runtime: {error}") from error
        self._input = artifact.manifest.input
        self._outputs = list(artifact.manifest.outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run it on images, uint8 (1, h, w, 3) RGB; gives what `Manifest.outputs` names."""
        found = self._session.run(self._outputs, {self._input: images.numpy()})
        return tuple(map(torch.from_numpy, found))
