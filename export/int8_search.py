"""Search for an int8 graph with as few float layers as possible at its beginning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from edgead.export.layers import layers
from edgead.export.quantize import Scheme, measure_ranges, quantize
from edgead.export.rounding import second_moments

from edgead.dataset.folders import StageProgress

MOST_IN_FLOAT = 8
"""Most layers that may stay in float, from the first on, as errors of the first layers go through all others."""

ScoreError = Callable[[onnx.ModelProto], float]
"""Function from a graph to the relative error of the image scores when the detector runs it."""

Keep = Callable[[int], tuple[onnx.ModelProto, bool]]
"""Function from the number of layers to keep in float to the graph, and whether its error is small enough."""


@dataclass(frozen=True, slots=True)
class QuantisedGraph:
    """Quantised graph, and the facts of its search.

    `score_error`: error with all layers quantised.
    """

    model: onnx.ModelProto
    score_error: float
    float_layers: list[str]


def search(
    model: onnx.ModelProto,
    scheme: Scheme,
    images: Sequence[np.ndarray],
    score_error: ScoreError,
    tolerance: float,
    progress: StageProgress,
    *,
    give_up_above: float = math.inf,
) -> QuantisedGraph:
    """Quantise all layers except as few of the first ones as the tolerance needs; the caller checks the result.

    `model`: float graph, whose only input is the image.
    `images` (sequence of ndarray of shape (h, w, 3), uint8, RGB): preprocessed images for the ranges of tensors.
    `score_error`: function from a graph to its error, which the search lowers.
    `give_up_above`: error with all layers quantised above which the search gives up and keeps no layer in float.
    """
    ranges = measure_ranges(model, images, partial(progress, "calibrate ranges"))
    moments = second_moments(model, images)
    whole = quantize(model, ranges, scheme, moments=moments)
    error = score_error(whole)
    if error <= tolerance or error > give_up_above:
        return QuantisedGraph(whole, error, [])
    names, tried = list(layers(model)), 0
    most = min(MOST_IN_FLOAT, len(names) // 2)

    def keep(count: int) -> tuple[onnx.ModelProto, bool]:
        nonlocal tried
        tried += 1
        progress("keep layers in float", tried, max(tried, 2 * most.bit_length()))  # steps of doubling and bisection
        found = quantize(model, ranges, scheme, names[:count], moments)
        return found, score_error(found) <= tolerance

    count, found = _fewest(keep, most)
    return QuantisedGraph(found, error, names[:count])


def _fewest(keep: Keep, most: int) -> tuple[int, onnx.ModelProto]:
    """Find the fewest float layers with which the graph is good, by doubling and bisection; `most` if no number is."""
    bad, count = 0, min(1, most)
    model, passes = keep(count)
    while not passes and count < most:
        bad, count = count, min(2 * count, most)
        model, passes = keep(count)
    while passes and count - bad > 1:
        middle = (bad + count) // 2
        other, is_enough = keep(middle)
        bad, count, model = (bad, middle, other) if is_enough else (middle, count, model)
    return count, model
