"""Can a model keep its pipeline's `budget_ms` on this computer? Golden images are timed before cameras wait for it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from edgead.artifact.signatures.trust import ModelTrust
from edgead.detector import Detector
from edgead.errors import EdgeadError
from edgead.files.strict_yaml import YamlFile
from edgead.site.error_text import dotted
from edgead.site.schema import PipelineSection, Site

ROUNDS = 3


def find_late(site: Site, file: YamlFile) -> Iterator[str]:
    """Report each pipeline whose model cannot keep its budget here; one that cannot be opened is not judged.

    Parameters
    ----------
    site : Site
    file : YamlFile
        That it was read from.
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


def too_late(detector: Detector, budget_ms: float | None) -> str:
    """Say that even the fastest of its golden images takes longer than the budget; empty where it keeps it."""
    if budget_ms is None:
        return ""
    fastest_ms = min(_frame_times(detector), default=0.0)
    if fastest_ms <= budget_ms:
        return ""
    return (
        f"{detector.artifact.path} takes {fastest_ms:.3g} ms a frame on this computer, of {budget_ms:g} ms from the "
        "capture to the verdict: allow more, take another precision or runtime, or a smaller model"
    )


def _frame_times(detector: Detector) -> Iterator[float]:
    """Times of golden images in ms; the first of an engine pays for what it prepares, and others share the cores."""
    for image in [detector.artifact.image(golden.image) for golden in detector.graph.golden][:1] * ROUNDS:
        started = time.perf_counter_ns()
        detector.measure(image)
        yield (time.perf_counter_ns() - started) / 1e6


def _open(section: PipelineSection, trust: ModelTrust) -> Detector:
    return Detector.load(
        section.model,
        runtime=section.runtime,
        precision=section.precision,
        threads=section.threads,
        accept=trust.check,
    )
