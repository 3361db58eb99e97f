"""A finished artifact gets a graph of another precision: made, measured against fp32, calibrated, and proven."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from edgead.export.build import golden_of, measure_good, software_versions
from edgead.export.calibration_images import CalibrationImages
from edgead.export.float16 import to_float16
from edgead.export.graph import graph_properties
from edgead.export.layers import layers
from edgead.export.quantize import SCHEMES
from edgead.export.rewrite import ExportError
from edgead.export.search import search_int8

from edgead.artifact import Artifact, Manifest, PrecisionRecord, new_artifact, write_manifest
from edgead.calibration import calibrate
from edgead.dataset import StageProgress, no_progress
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images import load_image


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far scores and maps may be from those of fp32, relative as in `edgead.export.verify`."""

    score: float
    map: float


TOLERANCES = {
    "fp16": Tolerance(0.005, 0.02),
    "int8": Tolerance(0.05, 0.15),
    "int8_symmetric": Tolerance(0.05, 0.15),
}


@dataclass(frozen=True, slots=True)
class Differences:
    """How a graph scores the held-out images compared with fp32.

    The largest and the mean relative difference of the image scores, the largest relative difference of a map's pixel,
    and the correlation of the image scores.
    """

    score_error: float
    mean_score_error: float
    map_error: float
    correlation: float


class HeldOut:
    """The held-out images as the fp32 graph of a draft scores them; other graphs are compared with that."""

    def __init__(self, draft: Path, manifest: Manifest, paths: Sequence[Path]):
        self._draft = draft
        self._manifest = manifest
        self._images = [load_image(path) for path in paths]
        with Detector(Artifact(draft, manifest), precision="fp32") as detector:
            self._expected = [detector.measure(image) for image in self._images]

    def compare(self, precision: str) -> Differences:
        """Run the draft's graph of a precision over the images."""
        with Detector(Artifact(self._draft, self._manifest), precision=precision) as detector:
            measured = [detector.measure(image) for image in self._images]
        expected = np.array([x.image_score for x in self._expected])
        scores = np.array([x.image_score for x in measured])
        errors = np.abs(scores - expected) / np.maximum(np.abs(expected), 1e-12)
