"""Constants and properties of an ONNX file changed without the package onnx, compared with what onnx itself reads."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.artifact.onnx_constants import OnnxFormatError, read_constants, with_constants, with_properties

onnx = pytest.importorskip("onnx", reason="the truth is the package onnx")
from onnx import numpy_helper  # noqa: E402
from small_graph import small_graph  # noqa: E402


@pytest.fixture
def graph(tmp_path):
    small_graph(tmp_path / "small.onnx")
    return (tmp_path / "small.onnx").read_bytes()


def constants(graph: bytes) -> dict[str, np.ndarray]:
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_reads_what_onnx_reads(graph):
    expected = {name: value.ravel() for name, value in constants(graph).items() if value.dtype == np.float32}
    found = read_constants(graph)
    assert found.keys() == expected.keys() and len(found) == 8
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_changes_one_constant_and_nothing_else(graph):
    changed = with_constants(graph, {"b.bias": np.arange(5)})
    before, after = constants(graph), constants(changed)
    np.testing.assert_array_equal(after.pop("b.bias"), np.arange(5, dtype=np.float32))
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name])
    assert len(changed) == len(graph)


def test_replaces_the_properties(graph):
    model = onnx.load_from_string(graph)
    onnx.helper.set_model_props(model, {"old": "1"})
    wanted = {"edgead.detector": "patchcore", "long": "ü" * 300, "empty": ""}
    changed = with_properties(model.SerializeToString(), wanted)
    found = onnx.load_from_string(changed)
    assert {entry.key: entry.value for entry in found.metadata_props} == wanted
    assert found.graph == model.graph


@pytest.mark.parametrize("values", [{"nothing": np.zeros(5)}, {"b.bias": np.zeros(4)}])
def test_refuses_what_does_not_fit(graph, values):
    with pytest.raises(OnnxFormatError, match="float32 numbers"):
        with_constants(graph, values)


@pytest.mark.parametrize("content", [b"\xff" * 40, b"no ONNX file at all", b"\x3a\xff\xff\xff\x7f"])
def test_refuses_what_is_no_onnx_file(content):
    with pytest.raises(OnnxFormatError):
        read_constants(content)


def test_a_cut_file_is_refused_wherever_it_is_cut(graph):
    whole = len(read_constants(graph))
    for end in range(1, len(graph), 37):
        try:
            assert len(read_constants(graph[:end])) <= whole
        except OnnxFormatError:
            continue
