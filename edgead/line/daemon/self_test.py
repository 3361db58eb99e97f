"""Tests of a model before it judges: golden images against their recorded scores, and its time against `budget_ms`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.signatures.trust import ModelTrust
from edgead.calibration.conformal import score_scale
from edgead.detector import Detector, Measurement
from edgead.errors import EdgeadError
from edgead.files.strict_yaml import YamlFile
from edgead.line.site.error_text import dotted
from edgead.line.site.schema import PipelineSection, Site

ROUNDS = 3
# Times of one work on a device that judges meanwhile differ by less than this factor.
UNSTEADY = 1.25


@dataclass(frozen=True, slots=True)
class GoldenScore:
    """Test of one golden image: the recorded score, the score found, and their relative difference."""

    image: str
    expected: float
    found: float
    difference: float


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Result of a detector's test on its golden images."""

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
        """Raise SelfTestError unless the test passed."""
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
    """Failed self-test: golden images do not get their recorded scores; `found` is the test's result."""

    def __init__(self, message: str, found: SelfTest | None = None):
        super().__init__(message)
        self.found = found


def self_test(detector: Detector, measure: Callable[[np.ndarray], Measurement] | None = None) -> SelfTest:
    """Score a detector's golden images again, and compare them with the recorded scores.

    `measure`: scores an image instead of `detector.measure`, for a detector that judges frames meanwhile.
    Raises ArtifactError: the artifact's files have changed, on a failing disk for example, or another artifact is in
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
    """Read a detector's golden images as people see them, uint8 BGR; empty if they cannot be read."""
    try:
        images = [detector.artifact.image(golden.image) for golden in detector.graph.golden]
    except EdgeadError:
        return ()
    return tuple(detector.visible(image) for image in images)


def find_late(site: Site, file: YamlFile) -> Iterator[str]:
    """Yield a message for each pipeline whose model exceeds its budget here; models that cannot be opened are skipped.

    `file`: file that the site was read from.
    """
    for name, section in site.pipelines.items():
        if section.budget_ms is None:
            continue
        try:
            with _open(section, site.models.open_trust()) as detector:
                late = too_late(detector, section.budget_ms)
        except EdgeadError:
            continue
        if late:
            place = ("pipelines", name, "budget_ms")
            yield f"{file.where(place)}: {dotted(place)}: {late}"


def too_late(detector: Detector, budget_ms: float | None, present: Detector | None = None) -> str:
    """Return a message if even the fastest run of a golden image takes longer than the budget, or an empty text.

    A detector is never too late if it does the same work as the `present` detector, such as with other kinds or
    thresholds, or is not slower, such as after a lesson.
    """
    if budget_ms is None or (present is not None and _work(detector) == _work(present)):
        return ""
    images = [detector.artifact.image(golden.image) for golden in detector.graph.golden][:1]
    fastest_ms, allowed_ms = _fastest_ms(detector, images), budget_ms
    if fastest_ms > budget_ms and present is not None:
        with suppress(ValueError):  # an image that this one does not take
            allowed_ms = UNSTEADY * _fastest_ms(present, images)
    if fastest_ms <= max(budget_ms, allowed_ms):
        return ""
    return (
        f"{detector.artifact.path} takes {fastest_ms:.3g} ms a frame on this computer, of {budget_ms:g} ms from the "
        "capture to the verdict: allow more, take another precision or runtime, or a smaller model"
    )


def _work(detector: Detector) -> tuple[Any, ...]:
    """Return all that decides on a frame's time: hashes of graph and arrays, preprocessing, head and runtime."""
    manifest = detector.manifest
    arrays = {name: manifest.files.get(file) for name, file in manifest.arrays.items()}
    return detector.graph.sha256, arrays, manifest.inputs, manifest.head, detector.runtime


def _fastest_ms(detector: Detector, images: Sequence[np.ndarray]) -> float:
    """Time images several times, without waiting for frames that the detector judges: an engine's first run is slow."""
    times = [detector.measure(image).stage_times for image in images for _ in range(ROUNDS)]
    return min((one.preprocess_ms + one.infer_ms + one.score_ms + one.smooth_ms for one in times), default=0.0)


def _open(section: PipelineSection, trust: ModelTrust) -> Detector:
    return Detector.load(
        section.model, runtime=section.runtime, precision=section.precision, threads=section.threads, accept=trust.check
    )
