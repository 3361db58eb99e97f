"""Graphs of foundation detectors that TensorRT takes, at the smallest sizes of their networks."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest

from edgead_foundation.backbones.names import TOWERS

if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
    pytest.skip("NO ENGINES TESTED: tensorrt_rtx is not installed (x86-64 Linux has wheels)", allow_module_level=True)

from edgead.export.graph import export_onnx  # noqa: E402
from engine_graphs import check_graphs  # noqa: E402

from edgead.adapt.methods import METHODS  # noqa: E402
from edgead.artifact.manifest import Manifest  # noqa: E402
from edgead.runtime.engine_builder import build_engine  # noqa: E402
from edgead.runtime.flavour import find_flavour  # noqa: E402

pytestmark = pytest.mark.slow
SMALL = {
    "inp_former": {"backbone": "dino_vits16", "layers": ["block1", "block2"], "image_size": (64, 64), "map_size": 64},
    "metauas": {"image_size": (64, 64)},
    "anomaly_clip": {"backbone": "clip_vitb32", "image_size": (64, 64), "layers": ("block2",), "refined_blocks": 1},
    "crane": {"backbone": "clip_vitb32", "image_size": (64, 64), "layers": ("block1", "block2"), "refined_blocks": 2},
    "filo": {"backbone": "clip_vitb16", "image_size": (64, 64), "layers": ("block6", "block7"), "place": "map"},
}


@pytest.mark.parametrize("name", SMALL)
def test_every_detector_has_graphs_that_tensorrt_takes(name, tmp_path, monkeypatch):
    monkeypatch.setitem(TOWERS, "clip_vitb32", replace(TOWERS["clip_vitb32"], width=24, depth=2, heads=3))
    monkeypatch.setitem(TOWERS, "clip_vitb16", replace(TOWERS["clip_vitb16"], width=24, depth=7, heads=3))
    monkeypatch.setattr("edgead_foundation.clip.clip_text.DEPTH", 1)
    detector = METHODS[name].from_settings(SMALL[name], pretrained=False)
    check_graphs(detector, tmp_path, find_flavour("sm86"))


def test_crane_plus_has_a_graph_that_tensorrt_takes(tmp_path, monkeypatch):
    settings = {"backbone": "clip_vitl14", "image_size": (56, 56), "layers": ("block2",), "refined_blocks": 2}
    for name in ("clip_vitl14", "dinov2_vitb14_reg"):
        monkeypatch.setitem(TOWERS, name, replace(TOWERS[name], width=24, depth=2, heads=3))
    detector = METHODS["crane"].from_settings(
        {**settings, "dino": "dinov2_vitb14_reg", "mean_of": "logits"}, pretrained=False
    )
    graph = tmp_path / "model.onnx"
    export_onnx(detector.network, graph, Manifest.draft("crane", detector.preprocessing, detector.head))
    content, profile = build_engine(graph, graph.read_bytes(), find_flavour("sm86"), "sm86")
    assert profile == {"image": (1, 56, 56, 3)} and content
