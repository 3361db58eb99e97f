"""Parity check of the deployed Detector with the torch network scored in float64, on real images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from edgead.export.differences import score_scale

from edgead.artifact.folder import Artifact, ArtifactError, Graph
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import aligned, holes_of, inputs_of, map_of_frame, preprocess
from edgead.dataset.folders import Progress, StageProgress
from edgead.detector import Detector
from edgead.detector.joined_tiles import Mosaic
from edgead.heads.patches import HIDDEN
from edgead.workstation.methods.load import has_torch, load_network

SCORE_TOLERANCE = 1e-4
MAP_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Parity:
    """Result of a parity check: the largest differences over `images` images.

    `score_error` is relative to the expected score, see `score_scale`; `map_error` is the largest difference of a pixel
    relative to the map's maximum; `verdict_flips` counts images on the other side of a threshold; `worst_image` is the
    image with the `score_error`.
    """

    images: int
    score_error: float
    map_error: float
    verdict_flips: int
    worst_image: str

    @property
    def passed(self) -> bool:
        return self.score_error <= SCORE_TOLERANCE and self.map_error <= MAP_TOLERANCE and self.verdict_flips == 0

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "score_tolerance": SCORE_TOLERANCE,
            "map_tolerance": MAP_TOLERANCE,
            "passed": self.passed,
        }


@dataclass(frozen=True, slots=True)
class ImageComparison:
    """Comparison of one deployed detector with the expected results of one image.

    `score` is the score by the detector, errors are relative, and `flipped` says whether the verdict differs.
    """

    name: str
    score: float
    score_error: float
    map_error: float
    flipped: bool


def verify(artifact: Artifact, paths: Sequence[Path], progress: StageProgress) -> dict[str, Parity]:
    """Run `compare_with_torch` and `replay_golden`; return their results by name."""
    compared = "torch_and_deployed" if has_torch(artifact) else "graph_and_deployed"
    parity = compare_with_torch(artifact, paths, progress=partial(progress, "compare"))
    progress("judge golden images", 0, 1)
    return {compared: parity, "golden_and_deployed": replay_golden(artifact)}


def compare_with_torch(artifact: Artifact, paths: Sequence[Path] = (), *, progress: Progress | None = None) -> Parity:
    """Compare the deployed detector, in the precision that it learnt in, with the torch network or a substitute.

    The images are by default the golden images.
    """
    torch_scores = TorchScores(artifact)
    paths = list(paths) or [artifact.path / golden.image for golden in artifact.learnt_graph.golden]
    rows = []
    with Detector(artifact, precision=artifact.manifest.learnt_in) as detector:
        for done, path in enumerate(paths, 1):
            image = detector.read_image(path)
            rows.append(compare(path.name, torch_scores(image), detector, image))
            if progress:
                progress(done, len(paths))
    return _parity(rows)


def replay_golden(artifact: Artifact, *, runtime: str = "auto", precision: str | None = None) -> Parity:
    """Compare a deployed detector with the golden scores and maps recorded when it was built."""
    rows = []
    with Detector(artifact, runtime=runtime, precision=precision or artifact.manifest.learnt_in) as detector:
        for golden in detector.graph.golden:
            expected_map = np.load(artifact.path / golden.anomaly_map, allow_pickle=False)
            image = detector.read_image(artifact.path / golden.image)
            rows.append(compare(golden.image, (golden.image_score, expected_map), detector, image, detector.graph))
    return _parity(rows)


def compare(
    name: str, expected: tuple[float, np.ndarray], detector: Detector, image: np.ndarray, judge: Graph | None = None
) -> ImageComparison:
    """Measure an image by the detector and compare with the expected score and map.

    The expected score is judged by the thresholds of `judge`, by default the graph that was learnt.
    """
    score, anomaly_map = expected
    measured = detector.measure(image)
    ours, theirs = detector.graph.calibration, (judge or detector.artifact.learnt_graph).calibration
    assert ours is not None and theirs is not None
    if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
        return ImageComparison(name, measured.image_score, math.inf, math.inf, True)  # max() would ignore a NaN
    score_error = float(abs(measured.image_score - score) / score_scale(score, theirs.scores))
    map_error = float(np.abs(measured.anomaly_map - anomaly_map).max() / max(np.abs(anomaly_map).max(), 1e-12))
    limits = ((theirs.reject, ours.reject), (theirs.review, ours.review))
    flipped = any((score > of_score) != (measured.image_score > of_measured) for of_score, of_measured in limits)
    return ImageComparison(name, measured.image_score, score_error, map_error, flipped)


def _parity(rows: Sequence[ImageComparison]) -> Parity:
    if not rows:
        raise ArtifactError("there is no image to compare: name some")
    worst = max(rows, key=lambda row: row.score_error)
    flips = sum(row.flipped for row in rows)
    return Parity(len(rows), worst.score_error, max(row.map_error for row in rows), flips, worst.name)


class TorchScores:
    """Reference scores: image score and anomaly map from the torch network, with all scoring in float64."""

    def __init__(self, artifact: Artifact):
        self._network = load_network(artifact)
        self._manifest = artifact.manifest
        self._arrays = artifact.head_arrays()

    def __call__(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        laid = aligned(image, self._manifest.preprocessing)
        spec = self._manifest.preprocessing.model_copy(update={"alignment": None})
        if spec.tiles is None:
            score, anomaly_map, _ = self._of_input(laid.image, spec)
            return score, map_of_frame(anomaly_map, spec, laid)
        mosaic, scores, joined = None, [], np.empty(0)
        for number, one in enumerate(inputs_of(spec, image.shape)):
            score, anomaly_map, grid = self._of_input(laid.image, one)
            if mosaic is None:
                mosaic = Mosaic(spec, grid, image.shape[:2])
                joined = mosaic.blank(np.float64)
            mosaic.add(joined, number, anomaly_map)
            scores.append(score)
        return max(scores), map_of_frame(joined, spec, laid)

    def _of_input(self, image: np.ndarray, spec: Preprocessing) -> tuple[float, np.ndarray, tuple[int, int]]:
        """Compute score, map and patch grid for one network input of an aligned image."""
        manifest = self._manifest
        with torch.inference_mode():
            given = self._network(torch.from_numpy(preprocess(image, spec))[None])
        tensors = given if isinstance(given, tuple) else (given,)
        outputs = {name: tensor[0].double().numpy() for name, tensor in zip(manifest.outputs, tensors, strict=True)}
        if (holes := holes_of(image, spec, outputs[manifest.output].shape[:2])) is not None:
            outputs[HIDDEN] = holes
        score, anomaly_map = manifest.head.reference(outputs, self._arrays, spec.image_size)
        height, width = outputs[manifest.output].shape[:2]
        return score, anomaly_map, (height, width)
