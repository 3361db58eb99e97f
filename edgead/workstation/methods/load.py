"""Loading of an artifact's torch network from its settings, weights and arrays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgead.adapt.methods.method import Method
from edgead.adapt.methods.patchcore import PatchCore
from edgead.adapt.methods.registry import METHODS
from edgead.artifact.folder import Artifact, ArtifactError
from edgead.errors import SettingsError
from edgead.workstation.methods.imported import IMPORTED, ImportedNetwork

# Settings that patchcore no longer has. If one changed the network or the score, reading the head refuses the model.
_GONE = ("augment", "reweight_neighbors", "global_weight", "global_layers", "by_place")
# Settings that the published networks of efficient_ad no longer have; lite still has the last three.
_GONE_OF_PAPER = ("penalty_crops", "texture_share", "window", "top_patches", "sigma_px")


def has_torch(artifact: Artifact) -> bool:
    """Whether the model has a torch network. An imported one, or one learnt in int8 or fp16, has only its graph."""
    return artifact.manifest.detector != IMPORTED and artifact.manifest.learnt_in == "fp32"


def load_network(artifact: Artifact) -> nn.Module:
    """Rebuild the torch network of an artifact from its `weights.safetensors` and the arrays of its fp32 graph.

    Without such a network the model's graph replaces it; see `has_torch`.

    Raises ArtifactError: the detector is unknown, or weights are missing, edited, damaged, or do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    name = artifact.manifest.detector
    if not has_torch(artifact):
        return ImportedNetwork(artifact)
    try:
        METHODS.check(name)
    except SettingsError as error:
        raise ArtifactError(f"{artifact.path}: {error}") from error
    weights, channels = artifact.optional_file("weights.safetensors"), artifact.manifest.preprocessing.channels
    found = METHODS.find(name)
    try:
        method = found.from_settings(_settings(artifact, found), pretrained=weights is None, channels=channels)
        if weights is None and not isinstance(method, PatchCore):
            raise ArtifactError(
                f"{artifact.path} holds no weights.safetensors that its manifest lists: use the model as it left the "
                "workstation"
            )
        network: nn.Module = method.torch_network() if isinstance(method, PatchCore) else method.network  # type: ignore[attr-defined]
        network.load_state_dict({**(load(weights) if weights else network.state_dict()), **_learnt(artifact)})
    except (KeyError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"{artifact.path}: settings and weights do not fit ({error}): retrain the model") from error
    return network.eval()


def _learnt(artifact: Artifact) -> dict[str, Tensor]:
    return {name: torch.tensor(file.read()) for name, file in artifact.learnt_graph.arrays.items()}


def _settings(artifact: Artifact, method: type[Method[Any]]) -> dict[str, Any]:
    settings = artifact.manifest.training["settings"]
    gone: tuple[str, ...] = _GONE if issubclass(method, PatchCore) else ()
    if method.name == "efficient_ad":
        gone = ("by_place",) if settings["model_size"] == "lite" else _GONE_OF_PAPER
    return {name: value for name, value in settings.items() if name not in gone}
