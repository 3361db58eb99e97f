"""Comparison of every runtime and precision with the torch network on the same images: errors, AUROC, time, size."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from edgead.export.differences import changed_weights
from edgead.export.graph import load_graph
from edgead.export.verify import ImageComparison, TorchScores, compare, replay_golden

from edgead import metrics
from edgead.artifact.folder import Artifact
from edgead.artifact.preprocess import read_frame
from edgead.dataset.folders import LabelledImage, StageProgress, no_progress
from edgead.detector import Detector
from edgead.profiling.profiler import profile
from edgead.runtime import available_runtimes

Pair = tuple[str, str]
"""Names of a runtime and a precision."""

_TIMED: dict[str, Any] = {"warmup": 5, "n": 40}


@dataclass(frozen=True, slots=True)
class PairReport:
    """Result of one runtime and precision.

    Errors are relative to torch: means over the images, and `worst_score_error` the largest; for fp32 the largest
    differences must be within the tolerance, otherwise the means. `golden_error` is the largest relative difference of
    a golden image's score from the recorded one. `AUROC_change` is the change of AUROC from torch; None without labels.
    `network_ms` and `frame_ms` are medians on the golden images.
    """

    runtime: str
    precision: str
    images: int
    score_error: float
    worst_score_error: float
    map_error: float
    score_tolerance: float
    map_tolerance: float
    golden_error: float
    verdict_flips: int
    image_AUROC: float | None
    AUROC_change: float | None
    network_ms: float
    frame_ms: float
    size_mib: float
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def all_pairs(artifact: Artifact) -> list[Pair]:
    """List every graph of the artifact with every runtime that opens it on this machine."""
    return [
        (runtime, precision) for precision in artifact.precisions for runtime in available_runtimes(artifact, precision)
    ]


def verify_pairs(
    artifact: Artifact,
    pairs: Sequence[Pair],
    images: Sequence[Path | LabelledImage],
    *,
    progress: StageProgress = no_progress,
) -> list[PairReport]:
    """Compare the model under each (runtime, precision) with torch, and with the recorded scores of its golden images.

    `pairs`: see `all_pairs`.
    `images`: images; AUROC needs labelled ones, good and defective.
    """
    paths = [image.path if isinstance(image, LabelledImage) else image for image in images]
    labels = [image.is_defective for image in images if isinstance(image, LabelledImage)]
    torch_scores = TorchScores(artifact)
    expected_scores: list[float] = []
    rows: list[list[ImageComparison]] = [[] for _ in pairs]
    with ExitStack() as stack:
        detectors = [
            stack.enter_context(Detector(artifact, runtime=runtime, precision=precision))
            for runtime, precision in pairs
        ]
        for done, path in enumerate(paths, 1):
            image = read_frame(path, artifact.manifest.preprocessing)
            expected = torch_scores(image)
            expected_scores.append(expected[0])
            for row, detector in zip(rows, detectors, strict=True):
                row.append(compare(path.name, expected, detector, image))
            progress("compare", done, len(paths))
    auroc = partial(_auroc, labels)
    reports = []
    for done, (pair, row) in enumerate(zip(pairs, rows, strict=True), 1):
        reports.append(_report(artifact, pair, row, (auroc([x.score for x in row]), auroc(expected_scores))))
        progress("time and replay", done, len(pairs))
    return reports


def _report(
    artifact: Artifact, pair: Pair, row: Sequence[ImageComparison], aurocs: tuple[float | None, float | None]
) -> PairReport:
    runtime, precision = pair
    graph = artifact.graph(precision)
    golden = replay_golden(artifact, runtime=runtime, precision=precision)
    with Detector(artifact, runtime=runtime, precision=precision) as detector:
        latency = profile(
            detector, [detector.read_image(artifact.path / shown.image) for shown in graph.golden], **_TIMED
        ).latency
    record = artifact.manifest.graphs[precision]
    summary = np.max if precision == "fp32" else np.mean
    measured, of_torch = aurocs
    report = PairReport(
        runtime=runtime,
        precision=precision,
        images=len(row),
        score_error=float(summary([x.score_error for x in row])),
        worst_score_error=max(x.score_error for x in row),
        map_error=float(summary([x.map_error for x in row])),
        score_tolerance=record.score_tolerance,
        map_tolerance=record.map_tolerance,
        golden_error=golden.score_error,
        verdict_flips=sum(x.flipped for x in row),
        image_AUROC=measured,
        AUROC_change=None if measured is None or of_torch is None else measured - of_torch,
        network_ms=latency["infer"].p50_ms,
        frame_ms=latency["total"].p50_ms,
        size_mib=graph.path.stat().st_size / 2**20,
    )
    report.faults.extend(_faults(report, artifact))
    return report


def _faults(report: PairReport, artifact: Artifact) -> list[str]:
    faults = []
    # Comparisons are written so that NaN fails.
    if not report.score_error <= report.score_tolerance:
        faults.append(f"score error {report.score_error:.2g}, allowed {report.score_tolerance:g}")
    if not report.map_error <= report.map_tolerance:
        faults.append(f"map error {report.map_error:.2g}, allowed {report.map_tolerance:g}")
    if not report.golden_error <= report.score_tolerance:
        faults.append(f"golden scores differ by {report.golden_error:.2g}")
    if report.precision == artifact.manifest.learnt_in:
        if report.verdict_flips:
            faults.append(f"{report.verdict_flips} verdicts differ")
        return faults
    changed = changed_weights(load_graph(artifact), load_graph(artifact, report.precision))
    if changed:
        faults.append(f"weights are not those of the fp32 graph: {', '.join(changed[:3])}")
    return faults


def _auroc(labels: Sequence[bool], scores: Sequence[float]) -> float | None:
    return metrics.auroc(np.array(labels), np.array(scores)) if labels else None
