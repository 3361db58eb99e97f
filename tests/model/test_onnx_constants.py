"""Inputs of an ONNX file become constants without the package onnx, compared with what onnx itself reads."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.artifact.onnx_file import OnnxFormatError, with_constants, with_properties

onnx = pytest.importorskip("onnx", reason="the truth is the package onnx")
from onnx import numpy_helper  # noqa: E402
from small_graph import as_inputs, small_graph  # noqa: E402

NAMES = ("b.bias", "a.weight")


@pytest.fixture
def whole(tmp_path):
    return small_graph(tmp_path / "small.onnx")


@pytest.fixture
def learnt(whole):
    return {one.name: numpy_helper.to_array(one) for one in whole.graph.initializer if one.name in NAMES}


@pytest.fixture
def graph(whole):
    return as_inputs(whole, NAMES).SerializeToString()


def test_gives_the_graph_that_has_them_as_constants(whole, graph, learnt):
    found = onnx.load_from_string(with_constants(graph, learnt))
    onnx.checker.check_model(found, full_check=True)
    assert [one.name for one in found.graph.input] == ["image"]
    assert found.graph.node == whole.graph.node and found.graph.output == whole.graph.output
    constants, expected = (
        {one.name: numpy_helper.to_array(one) for one in model.graph.initializer} for model in (found, whole)
    )
    assert constants.keys() == expected.keys() and len(constants) == 8
    for name, value in expected.items():
        np.testing.assert_array_equal(constants[name], value, strict=True)


def test_some_may_stay_inputs(graph, learnt):
    found = onnx.load_from_string(with_constants(graph, {"b.bias": learnt["b.bias"]}))
    assert [one.name for one in found.graph.input] == ["image", "a.weight"]
    assert with_constants(graph, {}) is graph


def test_replaces_the_properties(graph):
    model = onnx.load_from_string(graph)
    onnx.helper.set_model_props(model, {"old": "1"})
    wanted = {"edgead.detector": "patchcore", "long": "ü" * 300, "empty": ""}
    changed = with_properties(model.SerializeToString(), wanted)
    found = onnx.load_from_string(changed)
    assert {entry.key: entry.value for entry in found.metadata_props} == wanted
    assert found.graph == model.graph


@pytest.mark.parametrize("name", ["nothing", "b.weight"])
def test_refuses_what_is_no_input(graph, name):
    with pytest.raises(OnnxFormatError, match=f"the graph has no input '{name}'"):
        with_constants(graph, {name: np.zeros(5)})


@pytest.mark.parametrize("content", [b"\xff" * 40, b"no ONNX file at all", b"\x3a\xff\xff\xff\x7f", b""])
def test_refuses_what_is_no_onnx_file(content, learnt):
    with pytest.raises(OnnxFormatError):
        with_constants(content, learnt)


def test_a_cut_file_is_refused_wherever_it_is_cut(graph, learnt):
    whole = len(with_constants(graph, learnt))
    for end in range(1, len(graph), 37):
        try:
            assert len(with_constants(graph[:end], learnt)) <= whole
        except OnnxFormatError:
            continue
