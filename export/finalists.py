"""Time and quality of candidates on this machine, of what would be shipped."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from edgead.export.calibration_images import CalibrationImages
from edgead.export.graph import export_onnx
from edgead.export.precision import PrecisionPlan, add_precision
from edgead.export.trial import Outcome, cut_bank, unpack
from edgead.export.tune_plan import Parts, TunePlan
from edgead.export.tune_space import ROWS, Candidate

from edgead.artifact import Artifact
from edgead.dataset import StageProgress
from edgead.detector import Detector
from edgead.errors import EdgeadError
from edgead.manifest import Manifest
from edgead.profile import profile
from edgead.runtime import open_runtime
from edgead.train import DETECTORS
from edgead.train.judging import DrawnTest

NETWORK_RUNS, FRAMES, WARMUP = 15, 200, 20
TIMED = 8  # different images


@dataclass(frozen=True, slots=True)
class Finalist:
    """A candidate that was built, timed here and judged as it ships."""

    candidate: Candidate
    precision: str
    latency_ms: float
    auroc: float
    path: Path

    def __str__(self) -> str:
        return f"{self.candidate}, {self.precision}: {self.latency_ms:.2f} ms, AUROC {self.auroc:.4f}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "detector": self.candidate.detector,
            "settings": self.candidate.settings,
            "name": str(self.candidate),
            "precision": self.precision,
            "latency_ms": self.latency_ms,
            "image_AUROC": self.auroc,
        }


def network_ms(candidate: Candidate, runtime: str) -> float:
    """Median time in ms of the network of a candidate, untrained."""
    model = DETECTORS[candidate.detector].from_settings(candidate.settings, pretrained=False)
    with tempfile.TemporaryDirectory(prefix="edgead-graph-") as work:
        manifest = Manifest(
            detector=model.name, preprocessing=model.preprocessing, scoring=model.scoring, output=model.output
        )
        export_onnx(model.network, Path(work) / "model.onnx", manifest)
        engine = open_runtime(Artifact(Path(work), manifest), runtime)
        times = []
        for _ in range(NETWORK_RUNS):
            started = time.perf_counter_ns()
            engine.run(engine.input)
            times.append((time.perf_counter_ns() - started) / 1e6)
        engine.close()
    return float(np.median(times))


def frame_ms(detector: Detector, images: list[np.ndarray], frames: int = FRAMES) -> float:
    """95th percentile of a frame's time in ms."""
    return profile(detector, images[:TIMED], warmup=WARMUP, n=frames).latency["total"].p95_ms


def judge_finalists(
    outcomes: list[Outcome], parts: Parts, plan: TunePlan, work: Path, progress: StageProgress
) -> list[Finalist]:
    """Time and judge the finalists here, one after the other, while nothing else of the search runs.

    One that is too slow as it is takes part with the largest smaller memory bank that keeps within the budget, too.
    """
    test = DrawnTest.of(parts.judge, plan.seed)
    finalists = []
    for done, outcome in enumerate(outcomes, 1):
        path = unpack(outcome, work / str(done))
        slow = []
        for precision in plan.precisions:
            try:
                if precision != "fp32":
                    images = CalibrationImages(parts.learn, parts.calibration.images, "training data")
                    add_precision(path, PrecisionPlan(precision), images)
                finalist = _measure(outcome.candidate, precision, path, test, plan.runtime)
            except EdgeadError:
                continue  # this candidate loses too much in this precision; it is there in the others
            assert finalist is not None
            finalists.append(finalist)
            if finalist.latency_ms > plan.latency_ms:
                slow.append(precision)
        finalists += _with_smaller_banks(outcome.candidate, slow, path, test, plan)
        progress("judge finalists", done, len(outcomes))
    return finalists


def _with_smaller_banks(
    candidate: Candidate, precisions: Sequence[str], path: Path, test: DrawnTest, plan: TunePlan
) -> list[Finalist]:
    """For each precision that is too slow, the first that is not; the artifact's memory bank is cut."""
    waiting, found = list(precisions), []
    for rows in sorted(ROWS.get(candidate.detector, ()), reverse=True):
        if not waiting:
            break
        if rows >= candidate.settings["memory_bank_size"]:
            continue
        cut_bank(path, rows)
        smaller = candidate.with_settings(memory_bank_size=rows)
        for precision in list(waiting):
            finalist = _measure(smaller, precision, path, test, plan.runtime, at_most_ms=plan.latency_ms)
            if finalist is not None:
                found.append(finalist)
                waiting.remove(precision)
    return found


def _measure(
    candidate: Candidate, precision: str, path: Path, test: DrawnTest, runtime: str, *, at_most_ms: float = math.inf
) -> Finalist | None:
    """Time and judge; None where a frame takes longer than `at_most_ms`, before anything is judged."""
    with Detector.load(path, runtime=runtime, precision=precision) as detector:
        latency_ms = frame_ms(detector, test.good)
        if latency_ms > at_most_ms:
            return None
        auroc = test.auroc([detector.measure(image).image_score for image in test.images])
    return Finalist(candidate, precision, latency_ms, auroc, path)
