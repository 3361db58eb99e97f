"""What the panel measures: ranking, escapes at a realised rate, shipped thresholds, pixels, frame times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgead import metrics
from edgead.dataset.folders import LabelledImage
from edgead.detector import Detector
from edgead.images.files import load_image
from edgead.report.evaluate import Evaluation, Outcome
from edgead.runtime import available_runtimes

TIMED_FRAMES = 60
WARM_UP = 5
RUNTIMES = ("onnxruntime", "openvino")


def measure_outcomes(outcomes: Sequence[Outcome], threshold: float | None) -> dict[str, float | None]:
    """Quality of the scores and maps of a test set; None for what cannot be measured.

    Parameters
    ----------
    outcomes : sequence of Outcome
    threshold : float, optional
        The shipped threshold. Without one there are no shipped rates.
    """
    labels = np.array([outcome.image.is_defective for outcome in outcomes])
    scores = np.array([outcome.image_score for outcome in outcomes])
    shipped = {"false_rejects": None, "reviews": None, "escapes": None, "escapes_same": None, "passed": None}
    if threshold is not None:
        decisions = np.array([outcome.decision for outcome in outcomes])
        rejected = float(np.mean(decisions[~labels] == "reject"))
        shipped = {
            "false_rejects": rejected,
            "reviews": float(np.mean(decisions[~labels] == "review")),
            "escapes": float(np.mean(decisions[labels] != "reject")),
            "escapes_same": escapes_at(labels, scores, rejected),
            "passed": float(np.mean(decisions[labels] == "ok")),
        }
    return {
        "image_AUROC": metrics.auroc(labels, scores),
        "image_AP": metrics.average_precision(labels, scores),
        "escapes_at_1": escapes_at(labels, scores, 0.01),
        "escapes_at_5": escapes_at(labels, scores, 0.05),
        **shipped,
        **_pixels(outcomes),
    }


def escapes_at(labels: np.ndarray, scores: np.ndarray, rate: float) -> float:
    """Share of defects that pass where the test's own good parts are rejected at a rate of `rate` or just below.

    The threshold is the lowest score of a good part that at most floor(rate x n) of the n good parts exceed; a defect
    passes unless its score is above it. It says what the scores can do; no threshold to ship is found like this.
    """
    good = np.sort(scores[~labels])
    allowed = math.floor(rate * len(good) + 1e-9)
    return float(np.mean(scores[labels] <= good[len(good) - 1 - allowed]))


def frame_times(model: Path, images: Sequence[LabelledImage]) -> dict[str, dict[str, float]]:
    """Milliseconds of a frame, from the image in memory to its map, on every engine for the CPU that is installed."""
    chosen = spread(images, TIMED_FRAMES)
    frames = [load_image(image.path) for image in chosen]
    times = {}
    with Detector.load(model) as detector:
        runtimes = [name for name in available_runtimes(detector.artifact) if name in RUNTIMES]
    for runtime in runtimes:
        with Detector.load(model, runtime=runtime) as detector:
            times[runtime] = time_frames(lambda frame, judge=detector: judge.measure(frame), frames)
    return times


def time_frames(judge: Callable[[np.ndarray], object], frames: Sequence[np.ndarray]) -> dict[str, float]:
    """Time each frame once, after a few that are not timed; percentiles are samples that were measured."""
    for frame in frames[:WARM_UP]:
        judge(frame)
    samples = []
    for frame in frames:
        start = time.perf_counter_ns()
        judge(frame)
        samples.append((time.perf_counter_ns() - start) / 1e6)
    median, p95 = np.percentile(samples, (50, 95), method="higher")
    return {"median_ms": float(median), "p95_ms": float(p95), "frames": len(samples)}


def fastest(times: dict[str, dict[str, float]]) -> dict[str, float]:
    """Median and 95th percentile of the engine with the lowest median."""
    best = min(times.values(), key=lambda found: found["median_ms"])
    return {"frame_ms": best["median_ms"], "frame_p95_ms": best["p95_ms"]}


def spread(images: Sequence[LabelledImage], count: int) -> list[LabelledImage]:
    """At most `count` images, evenly over the test set."""
    places = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
    return [images[place] for place in places]


def _pixels(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """Pixel AUROC and AUPRO over good images and those defects that have a mask."""
    masked = [outcome for outcome in outcomes if outcome.mask is not None]
    if not any(outcome.image.is_defective for outcome in masked):
        return {"pixel_AUROC": None, "AUPRO": None}
    found = Evaluation(masked, 0.0).to_dict()
    return {"pixel_AUROC": found["pixel_AUROC"], "AUPRO": found["AUPRO"]}
