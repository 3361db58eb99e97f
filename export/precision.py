"""Graph of another precision for a finished artifact: made, compared with fp32, calibrated, and verified."""

from __future__ import annotations

import math
import shutil
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from edgead.export.calibration_images import CalibrationImages, RangeImages
from edgead.export.differences import differences
from edgead.export.float16 import to_float16
from edgead.export.graph import load_graph
from edgead.export.int8_search import QuantisedGraph, search
from edgead.export.layers import layers, transformer
from edgead.export.quantize import MAX_IMAGES, SCHEMES
from edgead.export.rewrite import ToleranceError
from edgead.export.versions import export_versions

from edgead.adapt.build import TOLERANCES, VERIFY_FACTOR, graph_record
from edgead.adapt.finalize import GoodScores, each_measured, write_golden
from edgead.artifact.folder import Artifact, new_artifact, write_manifest
from edgead.artifact.inputs import Preprocessing
from edgead.artifact.manifest import MAX_TOLERANCE, Calibration, Golden, GraphRecord
from edgead.artifact.preprocess import inputs_of, read_frame
from edgead.dataset.folders import Progress, StageProgress, no_progress
from edgead.dataset.images import Images
from edgead.detector import Detector, Measurement
from edgead.errors import SettingsError

# Number of network inputs, from held-out images, on which the search measures graphs, and least number of images, if
# one is cut into many tiles. As the result is measured on all held-out images, the search aims a little lower.
SEARCH_INPUTS = 48
MIN_SEARCH_IMAGES = 8
SEARCH_MARGIN = 0.9
WARM_UP_FRAMES = 3


@dataclass(frozen=True, slots=True)
class PrecisionPlan:
    """Settings for a graph of another precision.

    `precision`: {"fp16", "int8", "int8_symmetric"}.
    `tolerance`: largest mean relative difference of the image scores from fp32's; by default from `TOLERANCES`.
    `make_default`: open this graph when no precision is requested.
    `give_up_above`: if the error of an int8 graph without float layers exceeds this many tolerances, the graph is
        refused, and the search for float layers is left out.
    `least_gain`: least speed-up over fp32, see `times_as_fast`; 0 accepts any.
    """

    precision: str
    tolerance: float | None = None
    make_default: bool = False
    give_up_above: float = math.inf
    least_gain: float = 0.0

    def check(self) -> None:
        """Raise SettingsError unless the precision can be made from fp32."""
        if self.precision not in TOLERANCES:
            raise SettingsError(f"precision {self.precision!r}: choose one of fp32, {', '.join(TOLERANCES)}")
        if not VERIFY_FACTOR * self.score_tolerance <= MAX_TOLERANCE:
            most = f"{MAX_TOLERANCE / VERIFY_FACTOR:g}"
            raise SettingsError(f"tolerance {self.score_tolerance:g}: more than {most} would test nothing")

    @property
    def score_tolerance(self) -> float:
        return TOLERANCES[self.precision] if self.tolerance is None else self.tolerance


def add_precision(
    path: Path, plan: PrecisionPlan, images: CalibrationImages, *, progress: StageProgress = no_progress
) -> Artifact:
    """Add a graph to the artifact at `path`, or replace it; nothing changes unless it is within its tolerance.

    Raises ToleranceError: the new graph's scores differ too much from fp32's, or the graph is not fast enough.
    Raises SettingsError: the precision is unknown, it is int8 of a transformer, or there are too few images.
    """
    plan.check()
    artifact = Artifact.load(path)
    check_for(artifact, plan.precision)
    with new_artifact(path, keep=False) as draft:
        shutil.copytree(path, draft, dirs_exist_ok=True)
        record = _make(Artifact(draft, artifact.manifest), plan, images, progress)
        manifest = artifact.manifest.model_copy(
            update={
                "graphs": {**artifact.manifest.graphs, plan.precision: record},
                "precision": plan.precision if plan.make_default else artifact.manifest.precision,
                "versions": export_versions(),
            }
        )
        write_manifest(draft, manifest)
        artifact.check_unchanged()
    return Artifact.load(path)


def check_for(artifact: Artifact, precision: str) -> None:
    """Raise SettingsError if a precision is not possible for the network; see `not_for`."""
    if problem := not_for(artifact, precision):
        raise SettingsError(f"{artifact.path} {problem}")


def not_for(artifact: Artifact, precision: str) -> str:
    """Return why a precision is not possible for the network; empty if it is."""
    if artifact.manifest.head.in_order:
        return "judges frames in order, and has its limit from streams that it does not keep: it stays in fp32"
    graph = load_graph(artifact)
    if precision == "fp16":
        return ""
    if artifact.manifest.preprocessing.keeps_depth:
        colour = artifact.manifest.preprocessing.colour
        return f"reads {colour}, of which {precision} would keep 256 levels: take fp32 or fp16"
    if transformer(graph):
        return f"has a transformer as its backbone, of which {precision} would change the first layer alone: take fp16"
    return "" if layers(graph) else f"has no convolution, all that {precision} changes: take fp32 or fp16"


def _make(draft: Artifact, plan: PrecisionPlan, images: CalibrationImages, progress: StageProgress) -> GraphRecord:
    """Write the graph and its golden maps into the draft."""
    trial = _Trial(draft, plan)
    if plan.precision == "fp16":
        trial.write(to_float16(load_graph(draft)))
        method: dict[str, Any] = {}
    else:
        found = _search(trial, images, progress)
        trial.write(found.model)
        method = {"score_error_of_all_layers": found.score_error, "float_layers": found.float_layers}
    of_fp32, good = GoodScores([], [], []), GoodScores([], [], [])
    with trial.open("fp32") as fp32, trial.open(plan.precision) as detector:
        if plan.least_gain:
            frames = search_images(images, draft.manifest.preprocessing).held_out
            gain = times_as_fast(fp32, detector, (read_frame(path, draft.manifest.preprocessing) for path in frames))
            if gain < plan.least_gain:
                raise ToleranceError(f"the {plan.precision} graph is {gain:.2f} times as fast on this CPU", "take fp32")
        measured = good.collecting(_each(detector, images, partial(progress, f"calibrate {plan.precision}")))
        error = differences(of_fp32.collecting(_each(fp32, images)), measured)
        if not error.mean_score_error <= plan.score_tolerance:
            problem = (
                f"the {plan.precision} graph changes the scores of {error.images} good images by "
                f"{100 * error.mean_score_error:.4g} % of their value, allowed is {100 * plan.score_tolerance:g} %"
            )
            raise ToleranceError(problem, "allow more with --tolerance")
        golden = _replay(detector, draft, plan.precision)
    before = draft.graph("fp32").calibration
    assert before is not None  # without it no images could be held out
    calibration = replace(good, method="cross_conformal" if len(images.folds) else None).calibrate(
        before.false_reject_rate,
        before.review_rate,
        groups=images.groups,
        paths=images.held_out,
    )
    facts = {"image_source": images.source, "decision_flips": _flips(before, of_fp32, calibration, good)}
    return trial.record.model_copy(
        update={
            "calibration": calibration,
            "golden": golden,
            "method": {**method, **facts, "differences": asdict(error)},
        }
    )


def _each(detector: Detector, images: CalibrationImages, progress: Progress | None = None) -> Iterator[Measurement]:
    """Score the held-out images, one by one."""
    for done, one in enumerate(each_measured(detector, images.held_out, images.folds), 1):
        yield one
        if progress:
            progress(done, len(images.held_out))


def times_as_fast(fp32: Detector, other: Detector, frames: Iterable[np.ndarray]) -> float:
    """Measure the speed-up of a precision on this machine: processor time of a frame in fp32 / in the other precision.

    The median is taken over frames measured by both in turns, without the first few, so that other load hardly counts.

    `frames`: frames for `Detector.measure`, more than `WARM_UP_FRAMES`.
    """
    ratios = [_processor_s(fp32, frame) / _processor_s(other, frame) for frame in frames]
    return statistics.median(ratios[WARM_UP_FRAMES:])


def _processor_s(detector: Detector, frame: np.ndarray) -> float:
    begin_s = time.process_time()
    detector.measure(frame)
    return time.process_time() - begin_s


def _flips(before: Calibration, of_fp32: GoodScores, calibration: Calibration, good: GoodScores) -> int:
    """Count the good images that both graphs judge differently, each by its own thresholds."""
    pairs = zip(of_fp32.scores, good.scores, strict=True)
    return sum(before.decide(old) != calibration.decide(new) for old, new in pairs)


class _Trial:
    """Draft artifact with a graph of the new precision, still without thresholds."""

    def __init__(self, draft: Artifact, plan: PrecisionPlan):
        self.record = graph_record(plan.precision, plan.tolerance, file=f"model.{plan.precision}.onnx")
        graphs = {**draft.manifest.graphs, plan.precision: self.record}
        self.artifact = Artifact(draft.path, draft.manifest.model_copy(update={"graphs": graphs}))
        self.plan = plan

    def open(self, precision: str) -> Detector:
        return Detector(self.artifact, runtime="onnxruntime", precision=precision)

    def write(self, model: onnx.ModelProto) -> None:
        properties = self.artifact.manifest.graph_properties | {"edgead.precision": self.plan.precision}
        onnx.helper.set_model_props(model, properties)
        onnx.checker.check_model(model)
        onnx.save(model, self.artifact.path / self.record.file)


class _Comparison:
    """Comparison of the search's graphs with fp32 on some of the held-out images."""

    def __init__(self, trial: _Trial, images: CalibrationImages):
        self._trial = trial
        self._images = images
        self._expected = self._measure("fp32")

    def _measure(self, precision: str) -> list[Measurement]:
        with self._trial.open(precision) as detector:
            return list(_each(detector, self._images))

    def score_error(self, model: onnx.ModelProto) -> float:
        """Compute the error of a graph's scores, which the search lowers."""
        self._trial.write(model)
        return differences(self._expected, self._measure(self._trial.plan.precision)).mean_score_error


def _search(trial: _Trial, images: CalibrationImages, progress: StageProgress) -> QuantisedGraph:
    preprocessing = trial.artifact.manifest.preprocessing
    comparison = _Comparison(trial, search_images(images, preprocessing))
    calibration_images = RangeImages(Images(_spread(images.ranges, MAX_IMAGES), preprocessing).some(MAX_IMAGES))
    scheme = SCHEMES[trial.plan.precision]
    tolerance = SEARCH_MARGIN * trial.plan.score_tolerance
    return search(
        load_graph(trial.artifact),
        scheme,
        calibration_images,
        comparison.score_error,
        tolerance,
        progress,
        give_up_above=trial.plan.give_up_above * tolerance,
    )


def search_images(images: CalibrationImages, spec: Preprocessing) -> CalibrationImages:
    """Select the held-out images on which every graph of the search is measured."""
    inputs = len(inputs_of(spec, read_frame(images.held_out[0], spec).shape))
    return images.some(max(MIN_SEARCH_IMAGES, SEARCH_INPUTS // inputs))


def _spread(paths: Sequence[Path], most: int) -> list[Path]:
    """Select at most `most` paths, evenly spaced."""
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)]


def _replay(detector: Detector, draft: Artifact, precision: str) -> list[Golden]:
    """Score the golden images by the new graph."""
    return [
        write_golden(detector, draft.path, shown.image, f"{Path(shown.anomaly_map).with_suffix('')}.{precision}.npy")
        for shown in draft.graph("fp32").golden
    ]
