"""The CUDA code on a machine without a GPU: it compiles for every target, the module loads, and the kernels, run by an
emulator of the PTX instructions they use, pass the tests of every other backend."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_emulator import SOURCES, build, build_driver

ROOT = Path(__file__).resolve().parents[2]
KERNELS = sorted(SOURCES.glob("*.cu"))
ARITHMETIC = ["--fmad=false", "--ftz=false", "--prec-sqrt=true"]
CARDS = ["80", "86", "87", "89", "90", "120"]  # A100, RTX 30, Orin, RTX 40, Hopper, RTX 50
FEW = ["86", "90"]  # the least registers and shared memory; what only Hopper and later have

# Beside the interpreter as well: a virtual environment need not be activated.
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
CMAKE, NINJA = (shutil.which(name, path=TOOLS) for name in ("cmake", "ninja"))

needs_nvcc = pytest.mark.skipif(not shutil.which("nvcc"), reason="CUDA CODE NOT COMPILED: there is no nvcc here")


def test_every_card_has_machine_code():
    """PTX is compiled by the driver, which refuses that of a newer toolkit."""
    text = (SOURCES / "CMakeLists.txt").read_text()
    names = re.findall(r"(?:set|APPEND).*CMAKE_CUDA_ARCHITECTURES (.*)\)", text)
    built = " ".join(names).split()
    for card in CARDS:
        assert card in built or f"{card}-real" in built
    assert "90" in built  # with PTX, for cards that are not named


def test_arithmetic_is_as_it_is_written():
    """What double_single.cuh rests on."""
    assert f"CUDA>:{';'.join(ARITHMETIC)}>" in (SOURCES / "CMakeLists.txt").read_text()


@needs_nvcc
@pytest.mark.parametrize("wanted", [FEW, pytest.param(CARDS, marks=pytest.mark.slow)], ids=["few", "all"])
@pytest.mark.parametrize("source", KERNELS, ids=lambda source: source.name)
def test_kernels_compile_without_a_warning(tmp_path, source, wanted):
    known = subprocess.run(["nvcc", "--list-gpu-arch"], check=True, capture_output=True, text=True).stdout.split()
    cards = [card for card in wanted if f"compute_{card}" in known]
    flags = ["-std=c++17", *ARITHMETIC, "-I", SOURCES / "ptx", "-Werror", "all-warnings"]
    # To machine code and not only to PTX: a register that spills to memory is a warning of the assembler.
    assembler = ["-Xptxas", "-warn-spills,-warn-lmem-usage,-Werror"]
    targets = [argument for card in cards for argument in ("-gencode", f"arch=compute_{card},code=sm_{card}")]
    command = ["nvcc", *flags, *assembler, *targets, "-c", "-o", tmp_path / "kernel.o", source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or done.stdout
    if cards != wanted:
        pytest.skip(f"CUDA CODE NOT COMPILED for {', '.join(set(wanted) - set(cards))}: this nvcc does not know them")


@pytest.mark.slow
@needs_nvcc
@pytest.mark.skipif(not (CMAKE and NINJA), reason="CUDA MODULE NOT BUILT: needs cmake and ninja")
def test_the_module_loads_without_a_gpu(tmp_path):
    pybind11 = pytest.importorskip("pybind11", reason="CUDA MODULE NOT BUILT: pybind11 is not installed")
    configure = [
        "-DEDGEAD_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=87", "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={tmp_path / 'out'}", f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DCMAKE_MAKE_PROGRAM={NINJA}",
    ]  # fmt: skip
    for command in (
        [CMAKE, "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja", *configure],
        [CMAKE, "--build", tmp_path / "build", "--target", "_cuda", "--parallel", "2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    code = """
import numpy, _cuda
assert _cuda.device_count() == 0 and _cuda.device_problem()
try:
    _cuda.NearestIndex(numpy.ones((1, 1), numpy.float32))
except RuntimeError as error:
    print(error)
"""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(tmp_path / "out")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stderr == ""
    assert done.stdout.startswith("CUDA: ") and done.stdout.count(": ") >= 2


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """The module, compiled for the emulator; beside it a driver."""
    pytest.importorskip("pybind11", reason="CUDA KERNELS NOT EMULATED: pybind11 is not installed")
    if not shutil.which("c++"):
        pytest.skip("CUDA KERNELS NOT EMULATED: there is no C++ compiler")
    folder = tmp_path_factory.mktemp("emulated")
    build_driver(folder)
    return build(folder)


# The quick ones hold what a change of the kernels or of the order of their work may break.
QUICK = [
    "base/test_cuda.py",
    "base/test_cuda_measure.py",
    "base/test_cuda_order.py",
    "base/test_cuda_resize.py",
    "base/test_cuda_scores.py",
    "model/test_device.py",
    "model/test_device_scoring.py",
    "model/test_engine_runtime.py",
]
# Of tests of what this machine lacks; and of a detector, which is trained first.
NOT_THERE = "not missing and not without and not PyCuda and not the_detector"


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (QUICK, NOT_THERE),
        pytest.param(["base/test_kernels_nearest.py"], "cuda or any", marks=pytest.mark.slow),
        pytest.param(["base/test_kernels_grouped.py"], "cuda", marks=pytest.mark.slow),
        pytest.param(["base/test_kernels_maps.py"], "cuda or any", marks=pytest.mark.slow),
        pytest.param(["model/test_device_scoring.py", "model/test_gpu_frames.py"], "", marks=pytest.mark.slow),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_emulated_gpu_passes_the_tests(emulated, files, chosen):
    if files == QUICK or files[0].startswith("model/test_device"):
        pytest.importorskip("cuda.bindings", reason="CUDA STREAMS NOT EMULATED: cuda-bindings are not installed")
    paths = [f"tests/{file}" for file in files]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "cuda_emulator.plugin", "-k", chosen, *paths]
    modules = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "EDGEAD_CUDA_EMULATED": str(emulated),
        "EDGEAD_REQUIRE": "cuda",
        "LD_LIBRARY_PATH": str(emulated.parent),
        "PYTHONPATH": os.pathsep.join(modules),
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout
