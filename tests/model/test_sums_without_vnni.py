"""8-bit weights of depthwise layers are summed exactly by CPUs without VNNI, those of other layers are not."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from system_packages import require

onnx = pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

CHANNELS, SIDE = 32, 8
LARGEST_INPUT, LARGEST_WEIGHT = 255, 127

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="16-bit sums of neighbours are those of x86")

_RUN = {
    "openvino": """
import sys, numpy, openvino
options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
core = openvino.Core()
image = numpy.load(sys.argv[2])
print(float(core.compile_model(core.read_model(sys.argv[1]), "CPU", options)(image)[0].max()))
""",
    "onnxruntime": """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
session = onnxruntime.InferenceSession(sys.argv[1], options)
print(float(session.run(None, {"image": numpy.load(sys.argv[2])})[0].max()))
""",
}


def graph(kernel: int, group: int) -> onnx.ModelProto:
    """A layer in 8 bits whose sums, of the largest numbers, become the largest output."""
    each = kernel * kernel * CHANNELS // group
    constants = {
        "step": np.float32(1),
        "zero": np.uint8(0),
        "weight": np.full((CHANNELS, CHANNELS // group, kernel, kernel), LARGEST_WEIGHT, np.int8),
        "steps": np.ones(CHANNELS, np.float32),
        "zeros": np.zeros(CHANNELS, np.int8),
        "sum_step": np.float32(each * LARGEST_WEIGHT),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "step", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "step", "zero"], ["input"]),
        helper.make_node("DequantizeLinear", ["weight", "steps", "zeros"], ["weights"], axis=0),
        helper.make_node("Conv", ["input", "weights"], ["sums"], group=group),
        helper.make_node("QuantizeLinear", ["sums", "sum_step", "zero"], ["rounded_sums"]),
        helper.make_node("DequantizeLinear", ["rounded_sums", "sum_step", "zero"], ["output"]),
    ]
    made = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, CHANNELS, None, None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def share(engine: str, kernel: int, group: int, folder) -> float:
    """What the largest sum becomes without VNNI, as a share of what it is."""
    pytest.importorskip(engine)
    emulator = []
    if engine == "onnxruntime":  # chooses its kernels by what the CPU says of itself
        emulator = [require("qemu"), "-cpu", "Haswell"]
    model = graph(kernel, group)
    onnx.save(model, folder / "model.onnx")
    np.save(folder / "image.npy", np.full((1, CHANNELS, SIDE, SIDE), LARGEST_INPUT, np.float32))
    command = [*emulator, sys.executable, "-c", _RUN[engine], str(folder / "model.onnx"), str(folder / "image.npy")]
    done = subprocess.run(
        command, env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    largest = LARGEST_INPUT * LARGEST_WEIGHT * kernel * kernel * CHANNELS / group
    return float(done.stdout.split()[-1]) / largest


@pytest.mark.parametrize("engine", list(_RUN))
@pytest.mark.parametrize("kernel", [3, 5])
def test_depthwise_sums_are_exact(engine, kernel, tmp_path):
    assert share(engine, kernel, CHANNELS, tmp_path) == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("engine", list(_RUN))
def test_other_sums_would_overflow(engine, tmp_path):
    assert share(engine, 1, 1, tmp_path) < 0.6
