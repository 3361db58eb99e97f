"""Graphs of memoryout that TensorRT takes, at the smallest size of its networks."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
    pytest.skip("NO ENGINES TESTED: tensorrt_rtx is not installed (x86-64 Linux has wheels)", allow_module_level=True)

from engine_graphs import check_graphs  # noqa: E402
from test_memoryout import build  # noqa: E402

from edgead.runtime.flavour import find_flavour  # noqa: E402

pytestmark = pytest.mark.slow


def test_its_graphs_are_taken(tmp_path):
    check_graphs(build(), tmp_path, find_flavour("sm86"))
