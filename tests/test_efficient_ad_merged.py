"""The exported graph of EfficientAD: what `StudentTeacher` computes, for less, and not where one thing flips."""

from __future__ import annotations

import inspect
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from edgead.export.float16 import to_float16  # noqa: E402
from edgead.export.graph import export_onnx  # noqa: E402
from edgead.export.layers import depthwise, layers  # noqa: E402
from edgead.export.quantize import MIN_IMAGES, SCHEMES, measure_ranges, quantize  # noqa: E402
from edgead.export.verify import compare_with_torch  # noqa: E402
from torch import nn  # noqa: E402

from edgead.artifact.manifest import Manifest, Preprocessing  # noqa: E402
from edgead.heads.map import MapHead  # noqa: E402
from edgead.images.files import write_image  # noqa: E402
from edgead.workstation.methods.efficient_ad import merged, student_teacher  # noqa: E402
from edgead.workstation.methods.efficient_ad.student_teacher import CHANNELS, StudentTeacher, build_pdn  # noqa: E402
from edgead.workstation.training.from_folder import train_from_folder  # noqa: E402
from edgead.workstation.training.good_images import GoodImages  # noqa: E402

SIZES = [("nano", False), ("small", False), ("small", True)]
SIDE, EFFICIENT_AD = 64, "efficient_ad"


def drawn(size: str = "nano", padding: bool = False) -> StudentTeacher:
    """Random weights, biases and quantiles: nothing is zero, and no two parts are alike."""
    torch.manual_seed(3)
    network = StudentTeacher(build_pdn(size, CHANNELS[size], padding=padding), size, (SIDE, SIDE), padding=padding)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3)
    network.quantiles.copy_(torch.tensor([[0.3, 0.9], [-0.2, 1.5]]))
    return network.eval().requires_grad_(False)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@torch.inference_mode()
def error_of(network: StudentTeacher) -> float:
    """Of the merged network, all in float64."""
    pixels = torch.from_numpy(image())[None]
    return error(network.double().merged()(pixels).numpy(), network(pixels).numpy())


@pytest.mark.parametrize(("size", "padding"), SIZES)
def test_the_merged_network_is_the_same(size, padding):
    assert error_of(drawn(size, padding)) < 1e-12


def test_medium_stays_as_it_is():
    network = drawn("medium")
    assert network.merged() is network


FLIPS = {
    "the sum with the student": ("(-each.detach()[channels]", "(each.detach()[channels]"),
    "the halves in the other order": (
        "= _negated(last, slice(channels)), _negated",
        "= _negated(last, slice(channels, None)), _negated",
    ),
    "the same half for both maps": ("_negated(last, slice(channels, None))", "_negated(last, slice(channels))"),
    "teacher and student subtracted": ("self.teacher(image) + self", "self.teacher(image) - self"),
    "autoencoder and student subtracted": ("self.autoencoder(image) + self", "self.autoencoder(image) - self"),
    "the teacher twice": ("self.autoencoder(image)", "self.teacher(image)"),
    "both factors the same": ("self.factors[1] * overall", "self.factors[0] * overall"),
    "the sum of both maps": ("0.05 / (stop", "0.1 / (stop"),
    "q_a added": ("-(factors * start)", "(factors * start)"),
    "the sum over channels": ("(factors / channels)", "(factors)"),
    "not squared": ("(each * each)", "(each.abs())"),
    "zeros around": ('mode="replicate"', 'mode="constant"'),
}


@pytest.mark.parametrize(("old", "new"), FLIPS.values(), ids=FLIPS)
def test_one_flip_is_another_network(old, new, monkeypatch):
    source = inspect.getsource(merged)
    assert source.count(old) == 1, f"{source.count(old)} places read {old!r}"
    module = ModuleType(merged.__name__)
    exec(compile(source.replace(old, new), str(merged.__file__), "exec"), module.__dict__)
    monkeypatch.setattr(student_teacher, "MergedStudentTeacher", module.MergedStudentTeacher)
    assert error_of(drawn()) > 1e-3


def test_another_order_of_the_sums_stays_within_the_bound():
    """That of the module, for one convolution of the features of both: sums of the absolute values of all products."""
    network, unit = drawn(), 2.0**-24
    teacher, student = network.teacher[-1], network.merged().ahead
    taught, seen = torch.randn(2, 1, teacher.in_channels, 9, 9, generator=torch.Generator().manual_seed(0)).unbind()
    weight, bias = torch.cat([teacher.weight, student.weight], dim=1), teacher.bias + student.bias
    joined, apart = F.conv2d(torch.cat([taught, seen], dim=1), weight, bias), teacher(taught) + student(seen)
    count = weight[0].numel() + 2
    sizes = F.conv2d(torch.cat([taught, seen], dim=1).abs(), weight.abs(), teacher.bias.abs() + student.bias.abs())
    assert ((joined - apart).abs() <= 2 * count * unit / (1 - count * unit) * sizes).all() and (joined != apart).any()


@pytest.fixture(scope="module")
def graphs(tmp_path_factory) -> dict[str, onnx.ModelProto]:
    """What nano is exported as, and what it would be without `merged`."""
    folder, network = tmp_path_factory.mktemp("graphs"), drawn()
    manifest = Manifest.draft(EFFICIENT_AD, Preprocessing(image_size=(SIDE, SIDE)), MapHead())
    export_onnx(network, folder / "merged.onnx", manifest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudentTeacher, "merged", lambda self: self)
        export_onnx(network, folder / "plain.onnx", manifest)
    return {name: onnx.load(folder / f"{name}.onnx") for name in ("plain", "merged")}


def run(model: onnx.ModelProto, seed: int = 0) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image(seed)[None]})[0]


def test_the_graph_computes_the_same(graphs):
    assert error(run(graphs["merged"]), run(graphs["plain"])) < 1e-5
    nodes = {name: [node.op_type for node in model.graph.node] for name, model in graphs.items()}
    assert "Slice" in nodes["plain"] and not {"Slice", "Pow", "ReduceMean"} & set(nodes["merged"])
    # The student's last layer is two, and what int8 gives eight bits stays.
    assert layers(graphs["merged"]).keys() == layers(graphs["plain"]).keys() - {"student.12"} | {"ahead", "behind"}
    assert depthwise(graphs["merged"]) == depthwise(graphs["plain"])


def test_half_floats_are_as_near(graphs):
    errors = {name: error(run(to_float16(model)), run(model)) for name, model in graphs.items()}
    assert errors["merged"] < max(1e-3, 1.2 * errors["plain"]), errors


def test_eight_bits_are_as_near(graphs):
    images, errors = [image(seed) for seed in range(MIN_IMAGES)], {}
    for name, model in graphs.items():
        ranges = measure_ranges(model, images, "minmax", lambda done, total: None)
        int8 = quantize(model, ranges, SCHEMES["int8"])
        assert "DequantizeLinear" in {node.op_type for node in int8.graph.node}
        errors[name] = error(run(int8), run(model))
    assert errors["merged"] < max(0.1, 1.2 * errors["plain"]), errors


def test_verify_compares_with_the_network_that_was_trained(tmp_path):
    for number in range(20):
        write_image(tmp_path / "good" / f"{number:02}.png", image(number))
    settings = {"model_size": "nano", "image_size": (SIDE, SIDE), "steps": 2}
    artifact, _ = train_from_folder(GoodImages(tmp_path / "good"), tmp_path / "model", settings, detector=EFFICIENT_AD)
    parity = compare_with_torch(artifact)
    assert parity.passed, parity
