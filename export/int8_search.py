"""The search behind an INT8 graph: which layers stay in float."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import onnx
from edgead.export.layers import METRIC, layers
from edgead.export.quantize import Scheme, measure_ranges, quantize
from edgead.export.rounding import Moments, open_graph, second_moments
from onnxruntime.quantization.calibrate import TensorsData

from edgead.dataset.folders import StageProgress

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
    score_error : float
        With all layers quantised.
    float_layers : list of str
    sensitivity : dict
        Layer to relative error of the outputs when it alone is quantised, largest first; empty if nothing was searched.
    """

    model: onnx.ModelProto
    score_error: float
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
        """Quantise all layers; then keep some in float, most sensitive first.

        As few layers are kept as the tolerance needs, half of them at most; the caller judges the result. With
        `float_layers`, exactly those are kept. With `give_up_above` it takes no minutes: where the error with all
        layers quantised is above that, none are looked for, and else only among the first.
        """
        named = list(float_layers or [])
        ranges = measure_ranges(self._model, self._images, partial(self._progress, "calibrate ranges"))
        whole = self._quantised(ranges, named)
        error = self._score_error(whole)
        if error <= tolerance or error > give_up_above:
            return Found(whole, error, named)
        if float_layers is None:
            # Mostly these: the metric multiplies every error, and what the first layers add goes through all others.
            early = sorted(layers(self._model), key=lambda name: name != METRIC)[:FIRST_LAYERS]
            kept, model, passes = self._keep_fewest(ranges, early, tolerance)
            if passes or give_up_above < math.inf:
                return Found(model, error, kept)
        sensitivity = self.sensitivity(ranges)
        if float_layers is not None:
            return Found(whole, error, named, sensitivity)
        kept, model, _ = self._keep_fewest(ranges, list(sensitivity)[: len(sensitivity) // 2], tolerance)
        return Found(model, error, kept, sensitivity)

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
