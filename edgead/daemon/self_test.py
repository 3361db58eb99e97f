"""The self-test: an artifact's golden images through the detector that is to judge, against the scores on record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.calibration.conformal import score_scale
from edgead.detector import Detector, Measurement
from edgead.errors import EdgeadError


@dataclass(frozen=True, slots=True)
class GoldenScore:
    """One golden image: the score on record, the one found, and their relative difference."""

    image: str
    expected: float
    found: float
    difference: float


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What a detector made of its golden images."""

    model: str
    tolerance: float
    images: tuple[GoldenScore, ...]

    @property
    def passed(self) -> bool:
        # `not >` would let a NaN pass.
        return bool(self.images) and all(image.difference <= self.tolerance for image in self.images)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}

    def require(self) -> None:
        """Raise SelfTestError unless it passed."""
        if self.passed:
            return
        if not self.images:
            raise SelfTestError(f"{self.model} has no golden images to test it with: retrain it", self)
        worst = max(
            self.images, key=lambda image: image.difference if image.difference == image.difference else math.inf
        )
        raise SelfTestError(
            f"self-test of {self.model} failed: {worst.image} scores {worst.found:.6g}, on record is "
            f"{worst.expected:.6g} (they differ by {worst.difference:.2g}, allowed is {self.tolerance:g}): "
            "copy the model again, or find out with `edgead doctor` what this machine computes wrongly",
            self,
        )


class SelfTestError(EdgeadError):
    """A detector that does not score its golden images as was recorded; `found` is what it scored."""

    def __init__(self, message: str, found: SelfTest | None = None):
        super().__init__(message)
        self.found = found


def self_test(detector: Detector, measure: Callable[[np.ndarray], Measurement] | None = None) -> SelfTest:
    """Replay the golden images.

    Parameters
    ----------
    detector : Detector
    measure : callable, optional
        Scores an image in place of `detector.measure`, for a detector that others use meanwhile.

    Raises
    ------
    ArtifactError
        If the artifact is no longer what was written, on a disk that is failing for example, or another one lies in
        its place.
    """
    measure = measure or detector.measure
    artifact = detector.artifact
    there = Artifact.load(artifact.path).manifest.manifest_sha256
    if there != artifact.manifest.manifest_sha256:
        raise ArtifactError(
            f"{artifact.path} holds another model (manifest {there[:12]}) than the one that was loaded from it "
            f"({artifact.manifest.manifest_sha256[:12]}): load it again"
        )
    graph = detector.graph
    good = graph.calibration.scores if graph.calibration else []
    images = []
    for golden in graph.golden:
        found = _score(measure, artifact, golden.image)
        difference = abs(found - golden.image_score) / float(score_scale(golden.image_score, good))
        images.append(GoldenScore(golden.image, golden.image_score, found, difference))
    return SelfTest(str(artifact.path), graph.score_tolerance, tuple(images))


def _score(measure: Callable[[np.ndarray], Measurement], artifact: Artifact, image: str) -> float:
    pixels = artifact.image(image)
    try:
        return measure(pixels).image_score
    except ValueError as error:  # too small for the region of interest, or a network that gives NaN
        raise ArtifactError(
            f"{artifact.path}: its golden image {image} cannot be scored ({error}): train the model again"
        ) from error


def golden_images(detector: Detector) -> tuple[np.ndarray, ...]:
    """Read a detector's golden images, uint8 BGR; none where its folder no longer has them, which others report."""
    try:
        return tuple(detector.artifact.image(golden.image) for golden in detector.graph.golden)
    except EdgeadError:
        return ()
