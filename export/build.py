"""Finished artifact from a trained detector: exported, calibrated on what ships, with golden images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from edgead.export.graph import export_onnx
from safetensors.torch import save as serialize

from edgead.adapt.finalize import CalibrationPlan, complete_artifact
from edgead.artifact.folder import Artifact, new_artifact, write_arrays
from edgead.artifact.manifest import GraphRecord, Manifest, Preprocessing
from edgead.artifact.training_hashes import keep_learnt
from edgead.dataset.folders import Progress
from edgead.version import __version__
from edgead.workstation.methods.method import Trained


def build_artifact(
    trained: Trained,
    destination: Path,
    plan: CalibrationPlan,
    *,
    preprocessing: Preprocessing | None = None,
    provenance: dict[str, Any] | None = None,
    learnt: Sequence[Path] = (),
    folds: Sequence[int] = (),
    progress: Progress | None = None,
) -> Artifact:
    """Export, calibrate with the exported detector, add golden images, and put the artifact in its place.

    Parameters
    ----------
    trained : Trained
    destination : Path
        A new directory, or an artifact that is replaced once the new one is complete.
    plan : CalibrationPlan
    preprocessing : Preprocessing, optional
        What training used when it differs from `trained.preprocessing` (a region of interest).
    provenance : dict, optional
        Facts for the manifest's `training` section.
    learnt : sequence of Path
        Images that it has learnt from, for the record.
    folds : sequence of int, optional
        The fold of each of those.
    progress : callable, optional
        Called with (done, total) calibration images.
    """
    with new_artifact(destination) as draft:
        manifest = write_draft(trained, draft, preprocessing, provenance)
        keep_learnt(draft, learnt, folds)
        complete_artifact(draft, manifest, plan, progress=progress)
    return Artifact.load(destination)


def write_draft(
    trained: Trained, draft: Path, preprocessing: Preprocessing | None = None, provenance: dict[str, Any] | None = None
) -> Manifest:
    """Write what a detector needs to run, without thresholds; see `build_artifact`."""
    manifest = Manifest.draft(
        trained.name,
        preprocessing or trained.preprocessing,
        trained.head,
        learns_from=trained.learns_from,
        graphs={"fp32": GraphRecord(arrays=tuple(trained.graph_arrays))},
        training={"settings": trained.settings, **trained.notes, **(provenance or {})},
        versions=software_versions(),
    )
    weights = {name: each for name, each in trained.network.state_dict().items() if name not in trained.graph_arrays}
    (draft / "weights.safetensors").write_bytes(serialize(weights))
    export_onnx(trained.network, draft / "model.onnx", manifest)
    learnt = {**trained.arrays, **trained.graph_arrays}
    write_arrays(draft, manifest, {name: learnt[name] for name in manifest.arrays if name in learnt})
    return manifest


def software_versions() -> dict[str, str]:
    """Versions of what makes and runs a model, for the manifest."""
    modules = (torch, onnx, onnxruntime, np, cv2)
    return {"edgead": __version__} | {module.__name__: str(module.__version__) for module in modules}
