"""Parity: the torch network scored in float64 beside the deployed Detector, on real images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from edgead.artifact import Artifact, ArtifactError, Scoring
from edgead.dataset import Progress
from edgead.detector import Detector
from edgead.images import load_image
from edgead.preprocess import preprocess
from edgead.train import load_network

SCORE_TOLERANCE = 1e-4
MAP_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest differences over `images` images.

    `score_error` is relative to the torch score, or to the interquartile range of the calibration's scores if that is
    larger: a score near 0 need not be a small one, a discriminator's lie on both sides. `map_error` is the largest
    difference of a pixel relative to the map's maximum, `verdict_flips` counts images on the other side of a
    threshold; `worst_image` has `score_error`.
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


def compare_with_torch(artifact: Artifact, paths: Sequence[Path] = (), *, progress: Progress | None = None) -> Parity:
    """Compare the deployed detector with the torch network on images, by default the golden ones."""
    network = load_network(artifact)
    bank = artifact.memory_bank() if artifact.manifest.scoring.head == "patch_nearest" else None
    paths = list(paths) or [artifact.path / golden.image for golden in artifact.manifest.golden]
    rows = []
    with Detector(artifact) as detector:
        for done, path in enumerate(paths, 1):
            image = load_image(path)
            expected = _torch_scores(network, bank, artifact, image)
            rows.append(_compare(path.name, expected, detector, image))
            if progress:
                progress(done, len(paths))
    return _parity(rows)


def replay_golden(artifact: Artifact) -> Parity:
    """Compare the deployed detector with what was recorded when it was built."""
    rows = []
    with Detector(artifact) as detector:
        for golden in artifact.manifest.golden:
            expected_map = np.load(artifact.path / golden.anomaly_map, allow_pickle=False)
            image = load_image(artifact.path / golden.image)
            rows.append(_compare(golden.image, (golden.image_score, expected_map), detector, image))
    return _parity(rows)


def _compare(
    name: str, expected: tuple[float, np.ndarray], detector: Detector, image: np.ndarray
) -> tuple[str, float, float, bool]:
    score, anomaly_map = expected
    measured = detector.measure(image)
    limits = detector.manifest.calibration
    assert limits is not None
    if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
        return name, math.inf, math.inf, True  # max() would pass over a NaN
    spread = np.subtract(*np.percentile(limits.scores, [75, 25]))
    score_error = float(abs(measured.image_score - score) / max(abs(score), spread, 1e-12))
    map_error = float(np.abs(measured.anomaly_map - anomaly_map).max() / max(np.abs(anomaly_map).max(), 1e-12))
    flips = any((score > limit) != (measured.image_score > limit) for limit in (limits.reject, limits.review))
    return name, score_error, map_error, flips


def _parity(rows: list[tuple[str, float, float, bool]]) -> Parity:
    if not rows:
        raise ArtifactError("there is no image to compare: name some")
    worst = max(rows, key=lambda row: row[1])
    return Parity(len(rows), worst[1], max(row[2] for row in rows), sum(row[3] for row in rows), worst[0])


def _torch_scores(
    network: torch.nn.Module, bank: np.ndarray | None, artifact: Artifact, image: np.ndarray
) -> tuple[float, np.ndarray]:
    """Image score and anomaly map from the torch network alone, all scoring in float64."""
    manifest = artifact.manifest
    batch = torch.from_numpy(preprocess(image, manifest.preprocessing))[None]
    with torch.inference_mode():
        outputs = network(batch)
    output, *graph_score = [x[0].double() for x in (outputs if isinstance(outputs, tuple) else (outputs,))]
    scores = output if bank is None else _nearest(output, torch.from_numpy(bank).double(), manifest.scoring)
    window = [min(manifest.scoring.window, side) for side in scores.shape]
    averages = F.avg_pool2d(scores[None], window, stride=1).flatten()
    top = torch.topk(averages, min(manifest.scoring.top_patches, averages.numel())).values
    full = F.interpolate(
        scores[None, None], size=manifest.preprocessing.image_size, mode="bilinear", align_corners=False
    )
    image_score = manifest.scoring.patch_weight * top.mean() + sum(
        manifest.scoring.graph_weight * x for x in graph_score
    )
    return float(image_score), _blur(full[0, 0].numpy(), manifest.scoring)


def _nearest(features: torch.Tensor, bank: torch.Tensor, scoring: Scoring) -> torch.Tensor:
    grid = features.shape[:2]
    flat = features.reshape(-1, features.shape[-1])
    distance = torch.cdist(flat, bank, compute_mode="use_mm_for_euclid_dist")
    return torch.topk(distance, scoring.num_neighbors, largest=False).values.mean(dim=1).reshape(grid)


def _blur(image: np.ndarray, scoring: Scoring) -> np.ndarray:
    if scoring.sigma_px == 0:
        return image
    radius = int(np.ceil(4 * scoring.sigma_px))
    kernel = cv2.getGaussianKernel(2 * radius + 1, scoring.sigma_px, cv2.CV_64F)
    border = {"reflect": cv2.BORDER_REFLECT, "replicate": cv2.BORDER_REPLICATE}[scoring.border]
    return cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=border)
