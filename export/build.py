"""A trained detector becomes a finished artifact: exported, calibrated on what ships, with golden images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from edgead.export.graph import export_onnx
from safetensors.torch import save as serialize
from torch import nn

import edgead
from edgead.artifact import Artifact, new_artifact, write_manifest
from edgead.calibration import calibrate
from edgead.dataset import Progress
from edgead.detector import Detector, Measurement
from edgead.images import load_image, write_image
from edgead.manifest import Golden, Manifest, Preprocessing, Scoring

GOLDEN_IMAGES = 3


class Trained(Protocol):
    """What every detector in `edgead.train` offers after `fit`."""

    name: str
    output: Literal["features", "patch_scores"]
    network: nn.Module
    memory_bank: np.ndarray | None
    preprocessing: Preprocessing
    scoring: Scoring

    def settings(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class CalibrationPlan:
    """Held-out good images and the rates that their thresholds promise."""

    images: Sequence[Path]
    false_reject_rate: float
    review_rate: float | None = None


def build_artifact(
    trained: Trained,
    destination: Path,
    plan: CalibrationPlan,
    *,
    preprocessing: Preprocessing | None = None,
    provenance: dict[str, Any] | None = None,
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
    progress : callable, optional
        Called with (done, total) calibration images.
    """
    with new_artifact(destination) as draft:
        manifest = Manifest(
            detector=trained.name,
            preprocessing=preprocessing or trained.preprocessing,
            scoring=trained.scoring,
            output=trained.output,
            training={"settings": trained.settings(), **(provenance or {})},
            versions=software_versions(),
        )
        (draft / "weights.safetensors").write_bytes(serialize(trained.network.state_dict()))
        export_onnx(trained.network, draft / "model.onnx", manifest)
        if trained.memory_bank is not None:
            np.save(draft / "memory_bank.npy", trained.memory_bank, allow_pickle=False)
        with Detector(Artifact(draft, manifest)) as detector:
            good = measure_good(detector, plan.images, progress)
            golden = _write_golden(detector, plan.images, good.scores, draft)
        calibration = calibrate(
            good.scores,
            good.maxima,
            good.medians,
            false_reject_rate=plan.false_reject_rate,
            review_rate=plan.review_rate,
        )
        write_manifest(draft, manifest.model_copy(update={"calibration": calibration, "golden": golden}))
    return Artifact.load(destination)


def software_versions() -> dict[str, str]:
    """Versions of what makes and runs a model, for the manifest."""
    modules = (edgead, torch, onnx, onnxruntime, np, cv2)
    return {module.__name__: str(module.__version__) for module in modules}


@dataclass(frozen=True, slots=True)
class GoodScores:
    """What a detector says of good images: image scores, and maxima and medians of the maps."""

    scores: list[float]
    maxima: list[float]
    medians: list[float]


def measure_good(detector: Detector, paths: Sequence[Path], progress: Progress | None = None) -> GoodScores:
    """Run the detector over good images; what it says of them becomes thresholds."""
    good = GoodScores([], [], [])
    for done, path in enumerate(paths, 1):
        measured = detector.measure(load_image(path))
        good.scores.append(measured.image_score)
        good.maxima.append(measured.map_maximum)
        good.medians.append(float(np.median(measured.anomaly_map)))
        if progress:
            progress(done, len(paths))
    return good


def _write_golden(detector: Detector, paths: Sequence[Path], scores: Sequence[float], draft: Path) -> list[Golden]:
    """Keep the images with the lowest, the middle and the highest score, losslessly, with what was said of them."""
    order = np.argsort(scores)
    picks = dict.fromkeys(int(order[i]) for i in np.linspace(0, len(order) - 1, GOLDEN_IMAGES).round().astype(int))
    golden = []
    for number, pick in enumerate(picks):
        image = load_image(paths[pick])
        measured: Measurement = detector.measure(image)
        names = (f"golden/{number}.png", f"golden/{number}.npy")
        write_image(draft / names[0], image)
        np.save(draft / names[1], measured.anomaly_map, allow_pickle=False)
        golden.append(Golden(image=names[0], anomaly_map=names[1], image_score=measured.image_score))
    return golden
