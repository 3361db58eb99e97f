"""Frame time and quality of finalists on this machine, measured on the models to ship, and their Pareto front."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from edgead.export.calibration_images import CalibrationImages
from edgead.export.precision import PrecisionPlan, add_precision
from edgead.export.rewrite import ToleranceError

from edgead.adapt.build import write_draft
from edgead.adapt.methods import METHODS
from edgead.artifact.folder import Artifact
from edgead.dataset.folders import StageProgress
from edgead.detector import Detector
from edgead.errors import EdgeadError
from edgead.heads.nearest import BANK
from edgead.profiling.profiler import profile
from edgead.runtime import open_runtime
from edgead.workstation.methods.validation import DrawnTest
from edgead_tune.plan import ImageSplit, TunePlan
from edgead_tune.space import ROWS, Candidate
from edgead_tune.trial import TrialResult, cut_bank, unpack

WIDTH, HEIGHT, MARGIN = 760, 440, 60
FRAMES, WARMUP, NETWORK_RUNS = 100, 10, 15
TIMED = 8  # number of different images that frames are timed with
# Number of times that each finalist is timed, in turns. A machine that shares its host may take half as long again for
# a minute, which is no property of a model: the least time counts.
SERIES = 5


class Point(Protocol):
    @property
    def latency_ms(self) -> float: ...
    @property
    def auroc(self) -> float: ...


P = TypeVar("P", bound=Point)


def pareto_front(points: Sequence[P]) -> list[P]:
    """Return the points that no other point beats or equals in both time and quality, fastest first."""
    front: list[P] = []
    for point in sorted(points, key=lambda point: (point.latency_ms, -point.auroc)):
        if not front or point.auroc > front[-1].auroc:
            front.append(point)
    return front


def draw_front(points: Sequence[P], budget_ms: float, winner: P | None) -> str:
    """Draw all points, the front as a line, and the budget; return an SVG image."""
    right = 1.1 * max([budget_ms, *(point.latency_ms for point in points)])
    low = min((point.auroc for point in points), default=0.5)
    bottom = max(0.0, low - 0.1 * (1 - low) - 1e-3)

    def place(latency_ms: float, auroc: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * latency_ms / right
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (auroc - bottom) / (1 - bottom)
        return round(x, 1), round(y, 1)

    budget = place(budget_ms, bottom)[0]
    line = " ".join("{},{}".format(*place(point.latency_ms, point.auroc)) for point in pareto_front(points))
    dots = []
    for point in points:
        x, y = place(point.latency_ms, point.auroc)
        colour = "#c0392b" if point is winner else "#2c5f8a"
        dots.append(f'<circle cx="{x}" cy="{y}" r="4.5" fill="{colour}"><title>{escape(str(point))}</title></circle>')
    base, top = HEIGHT - MARGIN, MARGIN
    texts = [
        (WIDTH / 2, HEIGHT - 18, "middle", "latency of a frame, 95th percentile (ms)"),
        (MARGIN, top - 14, "start", "image AUROC against drawn defects"),
        (budget + 6, top + 12, "start", f"budget {budget_ms:g} ms"),
        *((place(right * i / 5, bottom)[0], base + 18, "middle", f"{right * i / 5:.3g}") for i in range(6)),
        *(
            (MARGIN - 8, place(0, bottom + (1 - bottom) * i / 4)[1] + 4, "end", f"{bottom + (1 - bottom) * i / 4:.3f}")
            for i in range(5)
        ),
    ]
    written = [
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>' for x, y, anchor, text in texts
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<path d="M{MARGIN} {top}V{base}H{WIDTH - MARGIN}" fill="none" stroke="#444"/>',
            f'<path d="M{budget} {top}V{base}" stroke="#888" stroke-dasharray="5 4"/>',
            f'<polyline points="{line}" fill="none" stroke="#2c5f8a"/>',
            *dots,
            *written,
            "</svg>",
            "",
        ]
    )


@dataclass(frozen=True, slots=True)
class Finalist:
    """Candidate whose finished model was built, and timed and evaluated on this machine."""

    candidate: Candidate
    precision: str
    latency_ms: float
    auroc: float

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
    """Measure the median time in ms of a candidate's untrained network."""
    model = METHODS[candidate.detector].from_settings(candidate.settings, pretrained=False)
    with tempfile.TemporaryDirectory(prefix="edgead-graph-") as work:
        manifest = write_draft(model.trained(), Path(work))
        engine = open_runtime(Artifact(Path(work), manifest), runtime)
        times = []
        for _ in range(NETWORK_RUNS):
            begin_ns = time.perf_counter_ns()
            engine.run(engine.input)
            times.append((time.perf_counter_ns() - begin_ns) / 1e6)
        engine.close()
    return float(np.median(times))


def frame_ms(detector: Detector, images: list[np.ndarray], frames: int = FRAMES) -> float:
    """Measure the 95th percentile of a frame's time in ms."""
    return profile(detector, images[:TIMED], warmup=WARMUP, n=frames).latency["total"].p95_ms


def judge_finalists(
    outcomes: list[TrialResult], parts: ImageSplit, plan: TunePlan, work: Path, progress: StageProgress
) -> tuple[list[Finalist], list[str]]:
    """Build, time and evaluate the finalists here, while nothing else of the search runs.

    A finalist that is too slow also takes part with the largest smaller memory bank that keeps within the budget.

    Returns (list of Finalist, list of str): the finalists, and the problems of others: some lose too much accuracy in a
        precision.
    """
    families: list[list[_Variant]] = []
    problems: list[str] = []
    for done, outcome in enumerate(outcomes, 1):
        built, refused = _build(outcome, parts, plan, work / str(done))
        families += built
        problems += refused
        progress("build finalists", done, len(outcomes))
    test = DrawnTest.of(parts.judge, plan.seed)
    for number in range(1, SERIES + 1):
        for family in families:
            for variant in family:
                variant.time(test.good, plan.runtime)
                if variant.latency_ms <= plan.latency_ms:
                    break  # smaller banks need no timing
        progress("time finalists", number, SERIES)
    finalists = []
    for done, (first, *smaller) in enumerate(families, 1):
        finalists.append(first.judged(test, plan.runtime))
        if first.latency_ms > plan.latency_ms:
            fast = next((one for one in smaller if one.latency_ms <= plan.latency_ms), None)
            finalists += [fast.judged(test, plan.runtime)] if fast else []
        progress("judge finalists", done, len(families))
    return finalists, problems


@dataclass(slots=True)
class _Variant:
    """Finalist in one precision with one size of memory bank, and the best time measured so far."""

    candidate: Candidate
    precision: str
    path: Path
    latency_ms: float = math.inf

    def time(self, images: list[np.ndarray], runtime: str) -> None:
        with Detector.load(self.path, runtime=runtime, precision=self.precision) as detector:
            self.latency_ms = min(self.latency_ms, frame_ms(detector, images))

    def judged(self, test: DrawnTest, runtime: str) -> Finalist:
        with Detector.load(self.path, runtime=runtime, precision=self.precision) as detector:
            auroc = test.auroc([detector.measure(image).image_score for image in test.images])
        return Finalist(self.candidate, self.precision, self.latency_ms, auroc)


def _build(trial: TrialResult, parts: ImageSplit, plan: TunePlan, work: Path) -> tuple[list[list[_Variant]], list[str]]:
    """Build variants with ever smaller memory banks for each precision that works; return them and the problems."""
    candidate, path = trial.candidate, unpack(trial, work)
    bank = Artifact.load(path).array(BANK) if candidate.detector in ROWS else ()
    if len(bank) < candidate.settings.get("memory_bank_size", 0):
        # The final training, on all images, has more patches; this keeps its bank as large as the one that is timed.
        candidate = candidate.with_settings(memory_bank_size=len(bank))
    precisions, problems = [], []
    for precision in plan.precisions:
        try:
            if precision != "fp32":
                judged = parts.calibration
                images = CalibrationImages(parts.learn, judged.images, "training data", judged.groups)
                add_precision(path, PrecisionPlan(precision), images)
        except EdgeadError as error:
            problems.append(f"{candidate}, {precision}: {error.found if isinstance(error, ToleranceError) else error}")
        else:
            precisions.append(precision)
    banks = [(candidate, path)]
    for rows in sorted(ROWS.get(candidate.detector, ()), reverse=True):
        if rows < candidate.settings["memory_bank_size"]:
            cut = work / f"{rows}_rows"
            shutil.copytree(path, cut)
            cut_bank(cut, rows)
            banks.append((candidate.with_settings(memory_bank_size=rows), cut))
    return [[_Variant(one, precision, at) for one, at in banks] for precision in precisions], problems
