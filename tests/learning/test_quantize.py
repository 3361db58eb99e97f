"""fp16 and int8 graphs: what is quantised and how, what stays in float, and the search between them."""

from __future__ import annotations

import itertools
from collections import Counter

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
import onnxruntime  # noqa: E402
from edgead.export.differences import changed_weights  # noqa: E402
from edgead.export.float16 import to_float16  # noqa: E402
from edgead.export.fuse_normalization import find_normalisation, share_normalisation  # noqa: E402
from edgead.export.int8_search import _fewest, search  # noqa: E402
from edgead.export.layers import body, depthwise, layers  # noqa: E402
from edgead.export.quantize import MIN_IMAGES, SCHEMES, measure_ranges, quantize  # noqa: E402
from edgead.export.rounding import LARGEST, second_moments, up_or_down  # noqa: E402
from onnx import TensorProto, numpy_helper  # noqa: E402
from small_graph import SIZE, small_graph, small_images  # noqa: E402

from edgead.adapt.frozen_backbone import LITE, packaged_backbone  # noqa: E402
from edgead.artifact.inputs import Preprocessing  # noqa: E402
from edgead.artifact.onnx_file import with_constants  # noqa: E402
from edgead.dataset.folders import no_progress  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.runtime.ort import WITHOUT  # noqa: E402


def silent(done, total):
    pass


@pytest.fixture
def small(tmp_path):
    return small_graph(tmp_path / "model.onnx")


@pytest.fixture
def ranges(small):
    return measure_ranges(small, small_images(MIN_IMAGES), silent)


def run(model, images, *, optimise=True):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, disabled_optimizers=WITHOUT)
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def readers(model, name):
    return [node for node in model.graph.node if name in node.input]


def test_layers_are_named_after_their_modules_and_the_tail_is_outside(small):
    assert list(layers(small)) == ["a", "b"]
    assert body(small) == {"nchw", "cast", "sub", "div", "conv_a", "relu6", "conv_b"}


def test_too_few_images_are_refused(small):
    with pytest.raises(SettingsError, match=f"at least {MIN_IMAGES}, found {MIN_IMAGES - 1}"):
        measure_ranges(small, small_images(MIN_IMAGES - 1), silent)


def test_ranges_are_those_of_the_images(small, capsys):
    images = small_images(MIN_IMAGES)
    ranges = measure_ranges(small, images, silent)
    low, high = (float(np.squeeze(x)) for x in ranges["normalised"].range_value)
    assert (low, high) == (min(x.min() for x in images) / 128 - 127 / 128, 1.0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("cast_first", [True, False])
def test_int8_for_cpus(ranges, tmp_path, cast_first):
    small = small_graph(tmp_path / "model.onnx", cast_first=cast_first)
    model = quantize(small, ranges, SCHEMES["int8"])
    ops = Counter(node.op_type for node in model.graph.node)
    values = constants(model)
    # The image is a quantised tensor as it comes; ReLU6 is what the range of its output cuts off.
    assert not {"Cast", "Sub", "Div", "Clip"} & ops.keys() and ops["Mul"] == 1
    (transpose,) = [node for node in model.graph.node if node.name == "nchw"]
    (image,) = readers(model, transpose.output[0])
    assert transpose.input[0] == "image" and image.op_type == "DequantizeLinear"
    assert (values[image.input[1]], values[image.input[2]]) == (np.float32(1 / 128), 127)
    assert values["a.weight_quantized"].dtype == np.int8 and values["a.weight_scale"].shape == (4,)
    assert np.abs(values["a.weight_quantized"]).max() == 64  # seven bits
    assert values["a.bias_quantized"].dtype == np.int32
    zero_points = {values[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert zero_points == {np.dtype(np.uint8)}
    images = small_images(4)
    expected = run(small, images)
    assert np.linalg.norm(run(model, images) - expected) < 0.03 * np.linalg.norm(expected)


def test_int8_for_tensorrt(small, ranges):
    model = quantize(small, ranges, SCHEMES["int8_symmetric"])
    values = constants(model)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert values[node.input[2]].dtype == np.int8 and not values[node.input[2]].any()
    assert {"a.bias", "b.bias"} <= values.keys()
    # A layer and its ReLU stand together, so that they can be fused.
    assert [node.op_type for node in readers(model, "a")] == ["Clip"]
    assert [node.op_type for node in readers(model, "relu6")] == ["QuantizeLinear"]
    images = small_images(4)
    expected = run(small, images)
    assert np.linalg.norm(run(model, images) - expected) < 0.05 * np.linalg.norm(expected)


def squared_errors(rows, rounded, moments):
    return np.einsum("on,onm,om->o", rounded - rows, moments, rounded - rows)


@pytest.mark.parametrize("kinds", [1, 3])
def test_rows_are_rounded_for_their_sums(kinds):
    rng = np.random.default_rng(0)
    rows = rng.uniform(-LARGEST, LARGEST, (3, 6))
    inputs = rng.normal(1, 0.1, (kinds, 100, 6))  # nearly alike, as neighbours are
    moments = inputs.transpose(0, 2, 1) @ inputs / 100
    rounded = up_or_down(rows, moments)
    assert (np.abs(rounded - rows) < 1).all() and np.abs(rounded).max() <= LARGEST
    each = np.broadcast_to(moments, (3, 6, 6))
    choices = np.array(list(itertools.product((0, 1), repeat=6)))
    every = [squared_errors(rows, np.floor(rows) + choice, each) for choice in choices]
    nearest, found = squared_errors(rows, np.round(rows), each), squared_errors(rows, rounded, each)
    assert (found <= nearest).all() and found.sum() < 0.2 * nearest.sum()
    assert found.sum() < 3 * np.min(every, axis=0).sum()


def test_moments_are_those_of_what_a_layer_multiplies(small):
    images = small_images(4)
    moments = second_moments(small, images)
    assert {name: moment.shape for name, moment in moments.items()} == {"a": (1, 27, 27), "b": (1, 4, 4)}
    small.graph.output.append(onnx.helper.make_empty_tensor_value_info("relu6"))
    session = onnxruntime.InferenceSession(small.SerializeToString())
    seen = np.concatenate([session.run(["relu6"], {"image": image[None]})[0] for image in images])
    seen = seen.transpose(0, 2, 3, 1).reshape(-1, 4)
    # Of an image of 16 x 16, 200 positions.
    np.testing.assert_allclose(moments["b"][0], seen.T @ seen / len(seen), rtol=0.1)


@pytest.mark.parametrize(("sides", "attributes"), [
    ((2, 3, 3, 3), {"dilations": [2, 2]}),
    ((2, 3, 3, 2), {"dilations": [2, 3], "strides": [2, 1], "pads": [1, 0, 2, 1]}),
    ((3, 1, 3, 3), {"dilations": [3, 2], "group": 3}),
])  # fmt: skip
def test_moments_give_the_mean_square_of_a_layer_of_any_form(sides, attributes):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=sides).astype(np.float32)
    image = rng.integers(0, 256, (16, 16, 3), np.uint8)
    helper = onnx.helper
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "a.weight"], ["output"], name="conv_a", **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 16, 16, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "a.weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    moments = second_moments(model, [image])["a"]  # of all positions: they are few
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    squares = np.einsum("on,onm,om->o", rows, np.broadcast_to(moments, (len(rows), *moments.shape[1:])), rows)
    output = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image[None]})[0]
    np.testing.assert_allclose(squares, np.square(output[0], dtype=np.float64).mean(axis=(1, 2)), rtol=1e-4)


def test_rounding_for_sums_comes_closer_than_the_nearest(small):
    noise = np.random.default_rng(2)
    images = [noise.integers(level, level + 8, (SIZE, SIZE, 3), np.uint8) for level in range(0, 240, 10)]  # plain
    ranges, moments = measure_ranges(small, images, silent), second_moments(small, images)
    model = quantize(small, ranges, SCHEMES["int8"], (), moments)
    expected = run(small, images)
    nearest = np.linalg.norm(run(quantize(small, ranges, SCHEMES["int8"]), images) - expected)
    assert np.linalg.norm(run(model, images) - expected) < 0.8 * nearest
    assert changed_weights(small, model) == []
    assert np.abs(constants(model)["a.weight_quantized"]).max() <= LARGEST


@pytest.fixture(scope="module")
def damped():
    """The packaged backbone with its lengths damped and a metric, images, their ranges and moments."""
    rng = np.random.default_rng(3)
    channels = 152
    learnt = {
        "mean": np.zeros(channels, np.float32),
        "inverse_std": np.ones(channels, np.float32),
        "squared_length": np.full(2, 100, np.float32),
        "metric": (np.eye(channels) + rng.normal(0, 0.02, (channels, channels))).astype(np.float32)[:, :, None, None],
    }
    model = onnx.load_from_string(
        with_constants(packaged_backbone(LITE[0], Preprocessing(image_size=(224, 224)), "fp32").graph, learnt)
    )
    coarse = rng.integers(0, 256, (MIN_IMAGES, 28, 28, 3), np.uint8)
    images = [cv2.resize(image, (224, 224), interpolation=cv2.INTER_CUBIC) for image in coarse]
    return model, images, measure_ranges(model, images, silent), second_moments(model, images)


def relative_error(model, expected, images):
    return np.linalg.norm(run(model, images) - expected) / np.linalg.norm(expected)


@pytest.mark.slow
def test_a_backbone_rounded_for_its_sums_needs_no_layer_in_float(damped):
    model, images, ranges, moments = damped
    images = images[:4]
    expected = run(model, images)
    nearest, summed = (
        relative_error(quantize(model, ranges, SCHEMES["int8"], (), given), expected, images)
        for given in (None, moments)
    )
    assert summed < 0.1 and summed < 0.6 * nearest


def test_depthwise_layers_have_eight_bits_and_others_seven(damped):
    model, _, ranges, moments = damped
    alone = depthwise(model)
    assert len(alone) == sum(name.endswith("_depthwise_conv") for name in layers(model)) > 5
    for given in (None, moments):
        values = constants(quantize(model, ranges, SCHEMES["int8"], (), given))
        for name in layers(model):
            largest = np.abs(values[f"{name}.weight_quantized"]).max()
            assert (largest == 127) if name in alone else (largest <= LARGEST), name


@pytest.mark.parametrize(("kind", "most"), [("_expand_conv", 2), ("_depthwise_conv", 2), ("_project_conv", 4)])
def test_around_layers_in_float_nothing_is_rounded_but_what_the_others_read_and_give(damped, kind, most):
    model, images, ranges, moments = damped
    names = list(layers(model))
    for name in (name for name in names if name.endswith(kind)):
        alone = quantize(model, ranges, SCHEMES["int8"], [other for other in names if other != name], moments)
        # Of a block's last layer the sum with what goes past it, too.
        assert sum(node.op_type == "QuantizeLinear" for node in alone.graph.node) <= most, name


@pytest.mark.parametrize("layer", ["a", "b"])
def test_a_layer_in_float_is_computed_in_float(small, ranges, layer):
    model = quantize(small, ranges, SCHEMES["int8"], [layer])
    values = constants(model)
    np.testing.assert_array_equal(values[f"{layer}.weight"], constants(small)[f"{layer}.weight"])
    images = small_images(4)
    # ONNX Runtime's own optimizers must not quantise it after all.
    np.testing.assert_allclose(run(model, images), run(model, images, optimise=False), atol=0.06)


def test_a_mean_that_is_no_whole_number_is_not_folded(tmp_path, ranges):
    assert find_normalisation(small_graph(tmp_path / "whole.onnx")).mean == 127
    small = small_graph(tmp_path / "m.onnx", mean=123.675)
    assert find_normalisation(small) is None
    assert {"Cast", "Sub", "Div"} <= {node.op_type for node in quantize(small, ranges, SCHEMES["int8"]).graph.node}


def test_means_by_channel_go_into_the_first_layer(tmp_path):
    small = small_graph(tmp_path / "model.onnx", mean=(123.675, 116.28, 103.53), pads=0)
    expected = run(small, small_images(4))
    share_normalisation(small)
    assert (find_normalisation(small).mean, find_normalisation(small).std) == (127, 128)
    np.testing.assert_allclose(run(small, small_images(4)), expected, rtol=1e-4, atol=1e-5)


def test_means_stay_where_the_first_layer_pads(tmp_path):
    small = small_graph(tmp_path / "model.onnx", mean=(123.675, 116.28, 103.53))
    before = small.SerializeToString()
    share_normalisation(small)
    assert small.SerializeToString() == before


def test_means_stay_where_layers_share_a_bias(tmp_path):
    """As the exporter leaves two that are equal."""
    small = small_graph(tmp_path / "model.onnx", mean=(123.675, 116.28, 103.53), pads=0)
    graph = small.graph
    (last,) = [node for node in graph.node if node.name == "conv_b"]
    (weight,) = [tensor for tensor in graph.initializer if tensor.name == "b.weight"]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:4], "b.weight"))
    last.input[2], graph.output[0].type.tensor_type.shape.dim[3].dim_value = "a.bias", 4
    expected = run(small, small_images(4))
    share_normalisation(small)
    np.testing.assert_array_equal(run(small, small_images(4)), expected)


def test_float16_keeps_inputs_outputs_and_the_tail(small):
    model = to_float16(small)
    values = constants(model)
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert values["a.weight"].dtype == np.float16
    (tail,) = [node for node in model.graph.node if node.name == "tail"]
    producer = next(node for node in model.graph.node if tail.input[0] in node.output)
    assert producer.op_type == "Cast" and producer.attribute[0].i == TensorProto.FLOAT
    images = small_images(4)
    np.testing.assert_allclose(run(model, images), run(small, images), atol=0.01)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rounded_weights_are_those_of_fp32_and_others_are_named(small, ranges, scheme):
    model = quantize(small, ranges, SCHEMES[scheme], ["b"])
    assert changed_weights(small, model) == []
    (stored,) = [tensor for tensor in model.graph.initializer if tensor.name == "a.weight_quantized"]
    values = numpy_helper.to_array(stored).copy()
    values[2, 1, 0, 0] += 1
    stored.CopyFrom(numpy_helper.from_array(values, stored.name))
    assert changed_weights(small, model) == ["a.weight"]


def test_changed_half_floats_are_found(small):
    model = to_float16(small)
    assert changed_weights(small, model) == []
    (stored,) = [tensor for tensor in model.graph.initializer if tensor.name == "b.weight"]
    values = numpy_helper.to_array(stored).copy()
    values[0, 0] *= np.float16(1.01)
    stored.CopyFrom(numpy_helper.from_array(values, stored.name))
    assert changed_weights(small, model) == ["b.weight"]


def found_by_search(tmp_path, errors, tolerance=0.02, **options):
    """Search over the small graph with a score error that only depends on which layers are in float."""

    def score_error(model):
        quantised = {name.removesuffix(".weight_quantized") for name in constants(model) if "weight_quantized" in name}
        return errors["".join(sorted(quantised))]

    model = small_graph(tmp_path / "model.onnx", spread=100)
    return search(model, SCHEMES["int8"], small_images(MIN_IMAGES), score_error, tolerance, no_progress, **options)


def test_the_search_keeps_the_first_layers_in_float_where_they_suffice(tmp_path):
    found = found_by_search(tmp_path, {"ab": 0.5, "b": 0.01})
    assert (found.float_layers, found.score_error) == (["a"], 0.5)


def test_the_search_keeps_half_of_the_layers_at_most(tmp_path):
    assert found_by_search(tmp_path, {"ab": 0.5, "b": 0.4}).float_layers == ["a"]


def test_a_search_that_may_give_up_does_where_the_error_is_large(tmp_path):
    errors = {"ab": 0.5, "b": 0.4}
    assert found_by_search(tmp_path, errors, give_up_above=0.3).float_layers == []
    assert found_by_search(tmp_path, errors, give_up_above=0.6).float_layers == ["a"]


@pytest.mark.parametrize("needed", [1, 2, 5, 8, 11, 13])
def test_as_few_layers_as_are_needed(needed):
    tried = []

    def keep(count):
        tried.append(count)
        return f"graph {count}", count >= needed

    assert _fewest(keep, 12) == (min(needed, 12), f"graph {min(needed, 12)}")
    assert len(tried) == len(set(tried)) <= 7


def test_no_search_where_all_is_well(tmp_path):
    assert found_by_search(tmp_path, {"ab": 0.01}).float_layers == []
