"""Where a device gets a frozen backbone from: the package, or a model that is there.

The graph of a detector ends in the scale on which its features are compared, constants that are learnt from good
images. With neutral ones in their place it gives raw features; with those that were learnt it is the new detector's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgead.artifact.folder import MANIFEST, Artifact, ArtifactError
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.onnx_constants import read_constants, with_constants
from edgead.errors import SettingsError
from edgead.heads.nearest import NearestHead
from edgead.memory_bank.feature_scale import FeatureScale

PACKAGED = Path(__file__).parents[2] / "backbones"

MEAN, INVERSE_STD, SQUARED_LENGTH, METRIC = "mean", "inverse_std", "squared_length", "metric"
# A layer x is divided by sqrt(|x|^2 + r^2). Beside this r^2 no |x|^2 changes a float32, and the root is a power of two:
# what comes out is x / 2^50, exactly.
NEUTRAL_SQUARED_LENGTH = 2.0**100
RAW_FACTOR = 2.0**50


@dataclass(frozen=True, slots=True)
class FrozenBackbone:
    """A detector's graph without what it learnt, and how its images are prepared and its features scored.

    Attributes
    ----------
    graph : bytes
        ONNX, with neutral constants.
    settings : dict
        Of the detector `patchcore`, as in a manifest.
    origin : dict
        Where it comes from, for the manifest.
    """

    graph: bytes
    settings: dict[str, Any]
    preprocessing: Preprocessing
    head: NearestHead
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def damp_length(self) -> bool:
        return bool(self.settings["damp_length"])

    @property
    def whiten(self) -> bool:
        return bool(self.settings.get("whiten", False))

    @property
    def raw_factor(self) -> float:
        """What the graph's output is multiplied with to give raw features."""
        return RAW_FACTOR if self.damp_length else 1.0

    def marked(self) -> bytes:
        """The graph with the layers distinguished: the output of layer i is 2^i times smaller than else."""
        layers = np.arange(len(self.settings["layers"]))
        return with_constants(self.graph, {SQUARED_LENGTH: NEUTRAL_SQUARED_LENGTH * 4.0**layers})

    def learnt(self, scale: FeatureScale) -> bytes:
        """The graph of a detector that compares features on this scale."""
        values = {MEAN: scale.mean, INVERSE_STD: scale.inverse_std}
        if self.damp_length:
            values[SQUARED_LENGTH] = scale.squared_length
        if scale.metric is not None:
            values[METRIC] = scale.metric
        return with_constants(self.graph, values)


def packaged_backbones() -> list[str]:
    return sorted(file.stem for file in PACKAGED.glob("*.json"))


def open_backbone(name: str) -> FrozenBackbone:
    """Open a packaged backbone by the name of its preset, or that of the model at a path.

    Raises
    ------
    SettingsError
        There is no such backbone, or the model's cannot be reused on a device.
    ArtifactError
        A damaged model or package.
    """
    if name in packaged_backbones():
        return _packaged(name)
    if (Path(name) / MANIFEST).is_file():
        return _of_model(Artifact.load(name))
    raise SettingsError(
        f"no backbone {name!r}: choose {', '.join(packaged_backbones())}, or name the directory of a patchcore model"
    )


def neutral(graph: bytes) -> bytes:
    """Take out of a graph what it learnt."""
    present = read_constants(graph)
    values = {MEAN: np.zeros, INVERSE_STD: np.ones}
    constants = {name: make(present[name].size) for name, make in values.items() if name in present}
    if SQUARED_LENGTH in present:
        constants[SQUARED_LENGTH] = np.full(present[SQUARED_LENGTH].size, NEUTRAL_SQUARED_LENGTH)
    if METRIC in present:
        constants[METRIC] = np.eye(present[MEAN].size).ravel()
    if len(constants) < 2:
        raise SettingsError("the graph has no scale of its features, so it cannot learn another one")
    return with_constants(graph, constants)


def split_channels(raw: np.ndarray, marked: np.ndarray, layers: int) -> Sequence[int]:
    """Report how many channels each layer has, from the same image's features of both graphs, (n, d)."""
    # A channel that is zero everywhere shows nothing; it belongs to the layer of the one before it.
    total, smaller = np.abs(raw).sum(axis=0, dtype=np.float64), np.abs(marked).sum(axis=0, dtype=np.float64)
    known = (total > 0) & (smaller > 0)
    layer = np.zeros(raw.shape[1], int)
    layer[known] = np.round(np.log2(total[known] / smaller[known])).astype(int)
    layer = np.maximum.accumulate(layer)
    return [int((layer == i).sum()) for i in range(layers)]


def _packaged(name: str) -> FrozenBackbone:
    description = json.loads((PACKAGED / f"{name}.json").read_text(encoding="utf-8"))
    graph = (PACKAGED / f"{name}.onnx").read_bytes()
    digest = hashlib.sha256(graph).hexdigest()
    if digest != description["sha256"]:
        raise ArtifactError(f"{PACKAGED / name}.onnx is not the file that was packaged: install edgead again")
    return FrozenBackbone(
        graph,
        description["settings"],
        Preprocessing(**description["preprocessing"]),
        NearestHead(**description["head"]),
        {"backbone": name, "backbone_sha256": digest},
    )


def _of_model(artifact: Artifact) -> FrozenBackbone:
    manifest = artifact.manifest
    head = manifest.head
    settings = manifest.training.get("settings", {})
    if manifest.detector != "patchcore" or not isinstance(head, NearestHead) or head.graph_weight:
        what = "with a global score" if manifest.detector == "patchcore" else manifest.detector
        raise SettingsError(f"{artifact.path} is a model {what}: a device can learn patchcore without one alone")
    return FrozenBackbone(
        neutral(artifact.model_path.read_bytes()),
        settings,
        manifest.preprocessing.model_copy(update={"roi": None}),
        head.model_copy(update={"by_place": False}),
        {"backbone": artifact.path.name, "backbone_sha256": manifest.files[artifact.model_path.name]},
    )
