"""Graphs of a detector that TensorRT takes: fp32 and symmetric int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from edgead.export.graph import export_onnx
from edgead.export.quantize import MIN_IMAGES, SCHEMES, measure_ranges, quantize

from edgead.artifact.manifest import Manifest
from edgead.runtime.engine_builder import build_engine
from edgead.runtime.flavour import Flavour


def check_graphs(detector: Any, folder: Path, flavour: Flavour) -> None:
    """Export a detector for small images, and build an engine of each graph."""
    fp32, int8 = folder / "model.onnx", folder / "model.int8_symmetric.onnx"
    export_onnx(detector.network, fp32, Manifest.draft(detector.name, detector.preprocessing, detector.head))
    # Whatever the ranges: only the form of the graph matters here.
    shape = (*detector.preprocessing.image_size, 3)
    images = list(np.random.default_rng(0).integers(0, 256, (MIN_IMAGES, *shape), np.uint8))
    ranges = measure_ranges(onnx.load(fp32), images, lambda done, total: None)
    onnx.save(quantize(onnx.load(fp32), ranges, SCHEMES["int8_symmetric"]), int8)
    engines = []
    for graph in (fp32, int8):
        content, profile = build_engine(graph, graph.read_bytes(), flavour, "sm86")
        assert profile == {"image": (1, *shape)}
        engines.append(content)
    assert engines[0] != engines[1]
