"""Graphs of the reconstruction detectors that TensorRT takes, at the smallest sizes of their networks."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
    pytest.skip("NO ENGINES TESTED: tensorrt_rtx is not installed (x86-64 Linux has wheels)", allow_module_level=True)

from engine_graphs import check_graphs  # noqa: E402
from test_reconstruction import build  # noqa: E402

from edgead.runtime.flavour import find_flavour  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "settings"),
    [("strega", {}), ("strega", {"segment": True, "sign": "darker"}), ("obscure", {}), ("fader", {}), ("draem", {})],
    ids=["strega", "strega of tissue", "obscure", "fader", "fader of draem"],
)
def test_every_detector_has_graphs_that_tensorrt_takes(name, settings, tmp_path):
    check_graphs(build(name, **settings), tmp_path, find_flavour("sm86"))
