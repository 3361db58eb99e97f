"""Frozen backbone of a device: from the package, or from a model that is there.

The graph of a detector takes the scale on which its features are compared as inputs, which are learnt from good images.
With a neutral scale it gives raw features; with the one that was learnt it is the new detector's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from edgead.adapt.memory_bank.feature_space import FeatureScale
from edgead.artifact.folder import MANIFEST, Artifact, ArtifactError
from edgead.artifact.manifest import GraphRecord, Manifest, Preprocessing
from edgead.errors import SettingsError
from edgead.heads.nearest import NearestHead
from edgead.version import __version__

PACKAGED = Path(__file__).parents[1] / "backbones"

# A layer x is divided by sqrt(|x|^2 + r^2). Beside this r^2 no |x|^2 up to 2^23 changes a float32, and the root is a
# power of two: what comes out is x / 2^24, exactly.
NEUTRAL_SQUARED_LENGTH = 2.0**48
RAW_FACTOR = 2.0**24


@dataclass(frozen=True, slots=True)
class FrozenBackbone:
    """A detector's graph without what it learnt, and how its images are prepared and its features scored.

    Attributes
    ----------
    graph : bytes
        ONNX.
    channels : sequence of int
        Of each of the layers that its features are made of.
    settings : dict
        Of the detector `patchcore`, as in a manifest.
    origin : dict
        Where it comes from, for the manifest.
    """

    graph: bytes
    channels: Sequence[int]
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

    def neutral(self) -> FeatureScale:
        """The scale with which the graph gives raw features, `raw_factor` times smaller."""
        width = sum(self.channels)
        squared_length = np.full(len(self.channels), NEUTRAL_SQUARED_LENGTH)
        return FeatureScale(np.zeros(width), np.ones(width), squared_length, self.channels, np.eye(width))

    def inputs(self, scale: FeatureScale) -> dict[str, np.ndarray]:
        """What the graph takes beside the image, in its order, so that features are compared on a scale."""
        given = {"mean": scale.mean, "inverse_std": scale.inverse_std}
        if self.damp_length:
            given["squared_length"] = scale.squared_length
        if self.whiten and scale.metric is not None:
            given["metric"] = scale.metric[:, :, None, None]  # the weights of a convolution
        return {name: values.astype(np.float32) for name, values in given.items()}

    def manifest(self, roi: tuple[int, ...] | None) -> Manifest:
        """Draft the manifest of a patchcore model that looks at a region, or at all, of an image."""
        modules = (onnxruntime, np, cv2)
        return Manifest.draft(
            "patchcore",
            Preprocessing(**{**self.preprocessing.model_dump(), "roi": roi}),
            self.head,
            graphs={"fp32": GraphRecord(arrays=tuple(self.inputs(self.neutral())))},
            training={"settings": self.settings, "channels": list(self.channels), **self.origin},
            versions={"edgead": __version__} | {module.__name__: str(module.__version__) for module in modules},
        )


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


def _packaged(name: str) -> FrozenBackbone:
    description = json.loads((PACKAGED / f"{name}.json").read_text(encoding="utf-8"))
    graph = (PACKAGED / f"{name}.onnx").read_bytes()
    digest = hashlib.sha256(graph).hexdigest()
    if digest != description["sha256"]:
        raise ArtifactError(f"{PACKAGED / name}.onnx is not the file that was packaged: install edgead again")
    return FrozenBackbone(
        graph,
        description["channels"],
        description["settings"],
        Preprocessing(**description["preprocessing"]),
        NearestHead(**description["head"]),
        {"backbone": name, "backbone_sha256": digest},
    )


def _of_model(artifact: Artifact) -> FrozenBackbone:
    manifest = artifact.manifest
    head = manifest.head
    settings = manifest.training.get("settings", {})
    if manifest.detector != "patchcore" or not isinstance(head, NearestHead):
        raise SettingsError(f"{artifact.path} is a model of {manifest.detector}: a device can learn patchcore alone")
    if manifest.preprocessing.tiles is not None:
        raise SettingsError(f"{artifact.path} cuts frames into tiles: a device can learn models of whole frames alone")
    if manifest.preprocessing.keeps_depth:
        raise SettingsError(
            f"{artifact.path} reads {manifest.preprocessing.colour}: a device can learn models of 8-bit images alone"
        )
    graph, channels = artifact.graph("fp32"), manifest.training.get("channels")
    if not graph.arrays or not channels:
        raise SettingsError(
            f"{artifact.path} was made by an earlier edgead: its graph holds what it learnt. Retrain it, or name a "
            f"packaged backbone ({', '.join(packaged_backbones())})"
        )
    return FrozenBackbone(
        graph.read(),
        channels,
        settings,
        manifest.preprocessing.model_copy(update={"roi": None, "ignored": None, "alignment": None}),
        head.model_copy(update={"by_place": False, "known": None}),
        {"backbone": artifact.path.name, "backbone_sha256": manifest.files[artifact.model_path.name]},
    )
