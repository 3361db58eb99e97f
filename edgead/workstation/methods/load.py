"""The torch network of a finished artifact, rebuilt from its settings, weights and arrays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.errors import SettingsError
from edgead.workstation.methods.imported import IMPORTED, ImportedNetwork
from edgead.workstation.methods.method import Method
from edgead.workstation.methods.patchcore.detector import PatchCore
from edgead.workstation.methods.registry import METHODS

# Settings that patchcore no longer has. Where one changed the network or the score, reading the head refuses the model.
_GONE = ("augment", "reweight_neighbors", "global_weight", "global_layers")


def load_network(artifact: Artifact) -> nn.Module:
    """Rebuild the torch network of an artifact from its `weights.safetensors` and the arrays of its fp32 graph.

    An imported model has no such network: its graph stands for it.

    Raises
    ------
    ArtifactError
        Unknown detector, or weights that are missing, not what was written, or do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    name = artifact.manifest.detector
    if name == IMPORTED:
        return ImportedNetwork(artifact)
    try:
        METHODS.check(name)
    except SettingsError as error:
        raise ArtifactError(f"{artifact.path}: {error}") from error
    weights = artifact.optional_file("weights.safetensors")
    if weights is None and "commissioned" in artifact.manifest.training:
        return _commissioned_network(artifact)
    if weights is None:
        raise ArtifactError(
            f"{artifact.path} holds no weights.safetensors that its manifest lists: use the model as it left the "
            "workstation"
        )
    try:
        method = METHODS.find(name)
        settings, channels = _settings(artifact, method), artifact.manifest.preprocessing.channels
        network = method.from_settings(settings, pretrained=False, channels=channels).network
        network.load_state_dict({**load(weights), **_learnt(artifact)})
    except (KeyError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"{artifact.path}: settings and weights do not fit ({error}): retrain the model") from error
    return network.eval()


def _commissioned_network(artifact: Artifact) -> nn.Module:
    """Rebuild the network of a model that a device made: the packaged weights, and what it has learnt."""
    network = PatchCore.from_settings(_settings(artifact, PatchCore)).network
    learnt = _learnt(artifact)
    for name, buffer in network.named_buffers(recurse=False):
        if name in learnt:
            buffer.copy_(learnt[name].reshape(buffer.shape))
    return network.eval()


def _learnt(artifact: Artifact) -> dict[str, Tensor]:
    return {name: torch.tensor(file.read()) for name, file in artifact.graph("fp32").arrays.items()}


def _settings(artifact: Artifact, method: type[Method[Any]]) -> dict[str, Any]:
    gone = _GONE if issubclass(method, PatchCore) else ()
    return {name: value for name, value in artifact.manifest.training["settings"].items() if name not in gone}
