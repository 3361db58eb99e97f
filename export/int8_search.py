"""The search behind an INT8 graph: which calibration method, and which layers stay in float."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import onnx
from edgead.export.layers import METRIC, layers
from edgead.export.quantize import (
    EXTREMES,
    MAX_HISTOGRAM_IMAGES,
    METHODS,
    Scheme,
    measure_ranges,
    quantize,
)
from edgead.export.rounding import Moments, open_graph, second_moments
from onnxruntime.quantization.calibrate import TensorsData

from edgead.dataset.folders import StageProgress

# Of the tolerance. The next methods take minutes and seldom gain a fifth of an error.
FAR_WITHIN = 0.5
FIRST_LAYERS = 8

ScoreError = Callable[[onnx.ModelProto], float]
"""Relative error of the image scores when the detector runs a graph."""

Keep = Callable[[int], tuple[onnx.ModelProto, bool]]
"""Called with how many layers to keep in float; the graph, and whether its error is small enough."""


@dataclass(frozen=True, slots=True)
class Found:
    """A quantised graph and how it was found.

    Attributes
    ----------
    model : ModelProto
    method : str
        Of the calibration.
    method_errors : dict
        Score error of every method that was tried, with all layers quantised.
    float_layers : list of str
    sensitivity : dict
        Layer to relative error of the outputs when it alone is quantised, largest first; empty if nothing was searched.
    """

    model: onnx.ModelProto
    method: str
    method_errors: dict[str, float]
    float_layers: list[str]
    sensitivity: dict[str, float] = field(default_factory=dict)


class Int8Search:
    """Looks for a quantised graph whose score error stays within a tolerance.

    Parameters
    ----------
    model : ModelProto
        The float graph; the image is its only input.
    scheme : Scheme
    images : sequence of ndarray of shape (h, w, 3), uint8, RGB
        Preprocessed images that the ranges of the tensors come from.
    score_error : callable
        What the search lowers.
    progress : callable
        Called with (stage, done, total).
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        scheme: Scheme,
        images: Sequence[np.ndarray],
        score_error: ScoreError,
        progress: StageProgress,
    ):
        self._model = model
        self._scheme = scheme
        self._images = images
        self._score_error = score_error
        self._progress = progress

    def run(
        self, tolerance: float, float_layers: Sequence[str] | None = None, *, give_up_above: float = math.inf
    ) -> Found:
        """Choose the calibration method with the smallest score error; then keep layers in float, most sensitive first.

        A method that stays far within the tolerance is taken at once. As few layers are kept as the tolerance needs,
        half of them at most; the caller judges the result. With `float_layers`, exactly those are kept. With
        `give_up_above` it takes no minutes: where no method brings the error with all layers quantised below that, none
        are looked for, and else only among the first.
        """
        named = list(float_layers or [])
        ranges: dict[str, TensorsData] = {}
        models: dict[str, onnx.ModelProto] = {}
        errors: dict[str, float] = {}
        for method in METHODS:
            ranges[method] = self._ranges(method)
            models[method] = self._quantised(ranges[method], named)
            errors[method] = self._score_error(models[method])
            if errors[method] <= FAR_WITHIN * tolerance:
                break
        method = min(errors, key=errors.__getitem__)
        if errors[method] <= tolerance or errors[method] > give_up_above:
            return Found(models[method], method, errors, named)
        if float_layers is None:
            # Mostly these: the metric multiplies every error, and what the first layers add goes through all others.
            early = sorted(layers(self._model), key=lambda name: name != METRIC)[:FIRST_LAYERS]
            kept, model, passes = self._keep_fewest(ranges[method], early, tolerance)
            if passes or give_up_above < math.inf:
                return Found(model, method, errors, kept)
        sensitivity = self.sensitivity(ranges[method])
        if float_layers is not None:
            return Found(models[method], method, errors, named, sensitivity)
        kept, model, _ = self._keep_fewest(ranges[method], list(sensitivity)[: len(sensitivity) // 2], tolerance)
        return Found(model, method, errors, kept, sensitivity)

    def _keep_fewest(
        self, ranges: TensorsData, candidates: Sequence[str], tolerance: float
    ) -> tuple[list[str], onnx.ModelProto, bool]:
        """Keep as few of the candidates in float as the tolerance needs, the first ones; says whether they suffice."""
        tried: list[int] = []

        def keep(count: int) -> tuple[onnx.ModelProto, bool]:
            tried.append(count)
            # Doubling and halving take about this many.
            self._progress("keep layers in float", len(tried), max(len(tried), 2 * len(candidates).bit_length()))
            model = self._quantised(ranges, candidates[:count])
            return model, self._score_error(model) <= tolerance

        count, model, passes = _fewest(keep, len(candidates))
        return list(candidates[:count]), model, passes

    def sensitivity(self, ranges: TensorsData) -> dict[str, float]:
        """Relative error of the graph's outputs when one layer alone is quantised, most sensitive layer first."""
        names = list(layers(self._model))
        expected = self._outputs(self._model)
        found = {}
        for done, name in enumerate(names, 1):
            alone = self._quantised(ranges, [other for other in names if other != name])
            error = np.linalg.norm(self._outputs(alone) - expected) / max(float(np.linalg.norm(expected)), 1e-12)
            found[name] = round(float(error), 5)
            self._progress("sensitivity of layers", done, len(names))
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _quantised(self, ranges: TensorsData, float_layers: Sequence[str]) -> onnx.ModelProto:
        return quantize(self._model, ranges, self._scheme, float_layers, self._moments)

    @cached_property
    def _moments(self) -> Moments:
        return second_moments(self._model, self._images)

    def _ranges(self, method: str) -> TensorsData:
        most = len(self._images) if method == EXTREMES else MAX_HISTOGRAM_IMAGES
        picks = np.linspace(0, len(self._images) - 1, min(most, len(self._images))).round().astype(int).tolist()
        images = [self._images[i] for i in picks]
        return measure_ranges(self._model, images, method, partial(self._progress, f"calibrate {method}"))

    def _outputs(self, model: onnx.ModelProto) -> np.ndarray:
        """All outputs for a few images, in one vector."""
        session = open_graph(model)
        name = session.get_inputs()[0].name
        few = range(0, len(self._images), max(1, len(self._images) // 6))
        runs = [session.run(None, {name: self._images[i][None]}) for i in few]
        return np.concatenate([output.ravel() for outputs in runs for output in outputs])


def _fewest(keep: Keep, most: int) -> tuple[int, onnx.ModelProto, bool]:
    """The smallest count whose graph is good, found by doubling and halving, as more never do harm; else `most`."""
    bad, count = 0, min(1, most)
    model, passes = keep(count)
    while not passes and count < most:
        bad, count = count, min(2 * count, most)
        model, passes = keep(count)
    while passes and count - bad > 1:
        middle = (bad + count) // 2
        other, is_enough = keep(middle)
        bad, count, model = (bad, middle, other) if is_enough else (middle, count, model)
    return count, model, passes
