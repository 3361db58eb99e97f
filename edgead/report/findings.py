"""Figures of a report, computed before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgead.artifact.manifest import Calibration, Manifest
from edgead.calibration.conformal import score_scale
from edgead.calibration.group_conformal import one_of_each
from edgead.calibration.two_sample import same_distribution_p_value
from edgead.dataset.labelled import GOOD
from edgead.detector import Detector
from edgead.metrics import Rate
from edgead.profiling.latency import Latency, LatencyRecorder, machine_facts
from edgead.report.evaluate import Evaluation, Outcome
from edgead.report.guarantee import Guarantee, examine_guarantee
from edgead.types import DECISIONS, Decision


@dataclass(frozen=True, slots=True)
class TypeCount:
    """Counts for one type of images; `missed` counts defects judged "ok", or for good parts the rejects."""

    kind: str
    decisions: Mapping[Decision, int]
    missed: Rate


@dataclass(frozen=True, slots=True)
class Findings:
    """All figures of a report.

    `metrics` come from `Evaluation.to_dict`. `pro_curve` has the false-positive rates of pixels and the mean overlap of
    the defects' regions, or is None without masks. `same_scores_p_value` is for the hypothesis that the test's good
    parts score as the calibration's; `compared` are the numbers of scores of both, one for each group, and `moved` is
    the difference of their medians in interquartile ranges. `latency` is by stage, while images were judged.
    """

    manifest: Manifest
    calibration: Calibration
    precision: str
    evaluation: Evaluation
    metrics: dict[str, Any]
    pro_curve: tuple[np.ndarray, np.ndarray] | None
    types: list[TypeCount]
    guarantees: list[Guarantee]
    same_scores_p_value: float
    compared: tuple[int, int]
    moved: float
    latency: dict[str, Latency]
    totals_ms: np.ndarray
    machine: dict[str, Any]

    def of(self, *, good: bool) -> list[Outcome]:
        return [outcome for outcome in self.evaluation.outcomes if outcome.image.is_defective != good]

    def scores(self, *, good: bool) -> np.ndarray:
        return np.array([outcome.image_score for outcome in self.of(good=good)])

    def misses(self) -> list[Outcome]:
        """List defects that are not rejected, the lowest score first."""
        return sorted((one for one in self.of(good=False) if one.decision != "reject"), key=lambda one: one.image_score)


def examine(detector: Detector, evaluation: Evaluation) -> Findings:
    """Compute the figures of a report from a test set that a detector has judged."""
    calibration = detector.graph.calibration
    assert calibration is not None
    good = evaluation.of_kind(GOOD)
    good_scores, metrics = [one.image_score for one in good], evaluation.to_dict()
    calibrated = one_of_each(calibration.scores, calibration.groups)
    tested = one_of_each(good_scores, evaluation.groups_of(good))
    scale = float(score_scale(0.0, calibration.scores))
    recorder, totals_ms = LatencyRecorder(window=1_000_000), []
    # Without images in folds, as the first of each fold waits until the search without that fold is made.
    for one in [one for one in evaluation.outcomes if one.fold is None] or evaluation.outcomes:
        times = one.stage_times
        assert times is not None
        totals_ms.append(times.preprocess_ms + times.infer_ms + times.score_ms + times.smooth_ms)
        recorder.add_frame(times, total_ms=totals_ms[-1], finished_ns=0)
    return Findings(
        manifest=detector.manifest,
        calibration=calibration,
        precision=detector.graph.precision,
        evaluation=evaluation,
        metrics=metrics,
        pro_curve=evaluation.pixels().pro_curve() if metrics["AUPRO"] is not None else None,
        types=[_count(evaluation, kind) for kind in (GOOD, *evaluation.kinds())],
        guarantees=examine_guarantees(calibration, evaluation),
        same_scores_p_value=same_distribution_p_value(calibrated, tested),
        compared=(len(calibrated), len(tested)),
        moved=float(np.median(good_scores) - np.median(calibration.scores)) / scale,
        latency=recorder.summary(),
        totals_ms=np.array(totals_ms),
        machine=machine_facts(),
    )


def _count(evaluation: Evaluation, kind: str) -> TypeCount:
    outcomes = evaluation.of_kind(kind)
    decisions = [outcome.decision for outcome in outcomes]
    counts = {decision: decisions.count(decision) for decision in DECISIONS}
    return TypeCount(kind, counts, evaluation.rate_of(outcomes, "reject" if kind == GOOD else "ok"))


def examine_guarantees(calibration: Calibration, evaluation: Evaluation) -> list[Guarantee]:
    """Compare the counted rates with the limits' rates: first of rejects, then of rejects and reviews together."""
    good = evaluation.of_kind(GOOD)
    groups = evaluation.groups_of(good)
    rejected = [outcome.decision == "reject" for outcome in good]
    found = [examine_guarantee(calibration, "rejected", calibration.false_reject_rate, rejected, groups)]
    if calibration.review < calibration.reject:
        flagged = [outcome.decision != "ok" for outcome in good]
        asked = calibration.review_rate
        found.append(examine_guarantee(calibration, "rejected or sent to review", asked, flagged, groups))
    return found
