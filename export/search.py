"""The search behind an INT8 graph: which calibration method, and which layers stay in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from edgead.export.layers import layers
from edgead.export.quantize import METHODS, Scheme, measure_ranges, quantize
from onnxruntime.quantization.calibrate import TensorsData

from edgead.dataset import StageProgress
from edgead.runtime.ort import WITHOUT

ScoreError = Callable[[onnx.ModelProto], float]
"""Relative error of the image scores when the detector runs a graph."""


@dataclass(frozen=True, slots=True)
class Found:
    """A quantised graph and how it was found.

    Attributes
    ----------
    model : ModelProto
    method : str
        Of the calibration.
    method_errors : dict
        Score error of every method with all layers quantised.
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
    graph : Path
        The float graph.
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
        graph: Path,
        scheme: Scheme,
        images: Sequence[np.ndarray],
        score_error: ScoreError,
        progress: StageProgress,
    ):
        self._graph = graph
        self._model = onnx.load(graph)
        self._scheme = scheme
        self._images = images
        self._score_error = score_error
        self._progress = progress

    def run(self, tolerance: float, float_layers: Sequence[str] | None = None) -> Found:
        """Choose the calibration method with the smallest score error; then keep layers in float, most sensitive first.

        Layers are added until the tolerance holds or half of them are in float; the caller judges the result. With
        `float_layers`, exactly those are kept.
        """
        chosen = list(float_layers or [])
        ranges = {method: self._ranges(method) for method in METHODS}
        models = {method: quantize(self._model, found, self._scheme, chosen) for method, found in ranges.items()}
        errors = {method: self._score_error(model) for method, model in models.items()}
        method = min(errors, key=errors.__getitem__)
        if errors[method] <= tolerance:
            return Found(models[method], method, errors, chosen)
        sensitivity = self.sensitivity(ranges[method])
        model, error = models[method], errors[method]
        candidates = [] if float_layers is not None else list(sensitivity)[: len(sensitivity) // 2]
        for done, layer in enumerate(candidates, 1):
            chosen.append(layer)
            model = quantize(self._model, ranges[method], self._scheme, chosen)
            error = self._score_error(model)
            self._progress("keep layers in float", done, len(candidates))
            if error <= tolerance:
                break
        return Found(model, method, errors, chosen, sensitivity)

    def sensitivity(self, ranges: TensorsData) -> dict[str, float]:
        """Relative error of the graph's outputs when one layer alone is quantised, most sensitive layer first."""
        names = list(layers(self._model))
        expected = self._outputs(self._model)
        found = {}
        for done, name in enumerate(names, 1):
            alone = quantize(self._model, ranges, self._scheme, [other for other in names if other != name])
            error = np.linalg.norm(self._outputs(alone) - expected) / max(float(np.linalg.norm(expected)), 1e-12)
            found[name] = round(float(error), 5)
            self._progress("sensitivity of layers", done, len(names))
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _ranges(self, method: str) -> TensorsData:
        return measure_ranges(self._graph, self._images, method, partial(self._progress, f"calibrate {method}"))

    def _outputs(self, model: onnx.ModelProto) -> np.ndarray:
        """All outputs for a few images, in one vector."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, disabled_optimizers=WITHOUT)
        name = session.get_inputs()[0].name
        few = range(0, len(self._images), max(1, len(self._images) // 6))
        runs = [session.run(None, {name: self._images[i][None]}) for i in few]
        return np.concatenate([output.ravel() for outputs in runs for output in outputs])
