"""First hour on a card, without one: its report, with stand-ins for the programs and an emulated driver."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_emulator import build_driver

from benchmarks import gpu_first_hour
from benchmarks.gpu_first_hour import HOUR_S, MODELS, Card, NoCardError, Step, find_card, plan, run_step
from benchmarks.gpu_predictions import CARDS, Prediction, compare
from edgead import kernels

ROOT = Path(__file__).resolve().parents[2]
CARD = Card("NVIDIA H100 80GB HBM3", "", "9.0", 132, "12.8")


def has_card() -> bool:
    try:
        find_card()
    except NoCardError:
        return False
    return True


no_card = pytest.mark.skipif(has_card(), reason="this machine has a card")


@no_card
def test_without_a_card_it_says_so_at_once(tmp_path):
    if not shutil.which("make"):
        pytest.skip("there is no make")
    command = ["make", "gpu-first-hour", f"PYTHON={sys.executable}", f"ARGS=-o {tmp_path / 'out'}"]
    begin = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and time.monotonic() - begin < 10
    assert "there is no NVIDIA card that can be used here: the driver is missing (libcuda.so.1" in done.stderr
    assert "Nothing was built" in done.stderr and not (tmp_path / "out").exists()


def test_all_limits_together_are_less_than_an_hour():
    steps = list(plan(Path("/venv/bin/python"), CARD, Path("/models")))
    assert sum(step.limit_s for step in steps) <= HOUR_S
    built = [" ".join(step.command) for step in steps if step.name.startswith("engine patchcore fp16")]
    assert "--batch" not in built[0] and built[1].endswith("--precision fp16 --batch 4 --json")
    assert len({step.name for step in steps}) == len(steps)
    # What the model predicts has a step that measures it.
    measured = {
        f"{model.replace('efficient_ad_', 'efficient_ad ')} {precision}"
        for model in MODELS
        for precision in ("fp32", "fp16")
    }
    named = {
        f"{p.figure.removesuffix(' network ms')}" for *_, of in CARDS for p in of if p.figure.endswith("network ms")
    }
    assert named <= measured and {f"frames {model} fp16" for model in MODELS} <= {step.name for step in steps}


@pytest.mark.parametrize(
    ("cuda", "wanted"), [("12.8", ["tensorrt-cu12>=10", "<13"]), ("13.1", ["tensorrt-cu13", ">=13"])]
)
def test_tensorrt_is_that_of_the_drivers_cuda(cuda, wanted):
    card = Card("Card", "", "9.0", 132, cuda)
    (step,) = [step for step in plan(Path("/v/bin/python"), card, Path("/m")) if step.name == "TensorRT"]
    assert all(word in step.command[-1] for word in wanted)


def test_predictions_and_their_limits():
    one = Prediction("x us", 20, 30)
    assert [one.against(value)["verdict"] for value in (14, 39, 13.9, 39.1)] == [*["confirmed"] * 2, *["refuted"] * 2]
    assert one.against(50)["ratio"] == 2 and one.against(None)["verdict"] == "not measured"
    products = {"nearest 784x384x10000 k1 products us": 40.0}
    name, lines = compare("NVIDIA H100 80GB HBM3", products)
    (found,) = [line for line in lines if line["measured"]]
    assert (name, found["verdict"], found["refuted"]) == ("H100 SXM", "refuted", (0.7 * 22, 1.3 * 30))
    assert compare("NVIDIA GeForce GTX 1080", products) == (None, [])
    boards = {
        "Orin NVIDIA Jetson Orin Nano Developer Kit Super": "Orin Nano Super",
        "Orin NVIDIA Jetson Orin Nano": "Orin Nano",
        "Orin Jetson AGX Orin": "AGX Orin 64",
        "NVIDIA GeForce RTX 3060 Ti": None,
    }
    assert {board: compare(board, {})[0] for board in boards} == boards


def test_a_step_and_what_it_started_end_at_its_limit(tmp_path):
    mark = tmp_path / "still here"
    code = f"import subprocess; print('begun', flush=True); subprocess.run(['sh', '-c', 'sleep 3; touch \"{mark}\"'])"
    outcome = run_step(Step("slow", [sys.executable, "-c", code], 1), tmp_path / "log")
    assert (outcome.state, outcome.why) == ("over its time", "took more than 1 s; last: begun")
    time.sleep(3)
    assert not mark.exists()


def test_a_program_that_is_not_there_is_left_out(tmp_path):
    outcome = run_step(Step("tool", ["compute-sanitizer-of-nobody"], 1), tmp_path / "log")
    assert outcome.state == "left out" and "is not there, neither on the PATH nor in /usr/local/cuda/bin" in outcome.why


def test_what_cannot_be_read_is_a_failure(tmp_path):
    command = [sys.executable, "-c", "print('no counts')"]
    outcome = run_step(Step("tests", command, 20, read=gpu_first_hour.read_tests), tmp_path / "log")
    assert outcome.state == "failed" and "no line of pytest's counts" in outcome.why


# What the programs of a machine with a card answer, by their arguments.
STAND_IN = r"""
import json, os, sys, time
from pathlib import Path
words = sys.argv[1:]
line = " ".join(words)
if words[:2] == ["-m", "pip"] and "--editable" in words:
    assert os.environ["EDGEAD_CUDA"] == "1" and os.environ["CUDAARCHS"] == "native"
    sys.exit("CMake Error: no nvcc")
elif words[:2] == ["-m", "pytest"]:
    if "tests/base/test_cuda.py" in words and len(words) > 8:
        print("FAILED tests/base/test_cuda.py::test_bound - AssertionError: 1 != 2\n1 failed, 120 passed in 9.1s")
        sys.exit(1)
    print("..\n7 passed, 1 skipped in 0.1s")
elif words[:3] == ["-m", "benchmarks", "cuda"]:
    Path(words[-1]).write_text(Path(os.environ["KERNELS_JSON"]).read_text())
    print("784 x 384 in 10000")
elif words[:3] == ["-m", "benchmarks", "gpu_search"]:
    print(json.dumps({"nearest 784x384x10000 k1": {"whole us": 31.0, "as a graph": 1}}))
elif words[:3] == ["-m", "benchmarks", "gpu_batch"]:
    print(json.dumps({"images at once": 4, "frame alone ms": 0.4, "frame at once ms": 0.2}))
elif words[:1] == ["-c"] and "edgead.cli" in words[1]:
    verb = words[2]
    if verb == "doctor":
        print(json.dumps({name: {"ok": True, "detail": "works"} for name in ("cuda kernels", "tensorrt")}))
    elif verb == "engine":
        print(json.dumps({"engine_mib": 3.5}))
    elif "efficient_ad_medium --precision fp32" in line:
        time.sleep(60)
    else:
        stage = {"p50_ms": 0.29, "p99_ms": 0.4, "p99_9_ms": 0.6}
        latency = {"infer": stage, "total": {**stage, "p50_ms": 1.5}}
        print(json.dumps({"latency": latency, "launches": "as one CUDA graph"}))
elif words[:1] == ["-c"] and "importlib" in words[1]:
    print(json.dumps({"torch": "2.13"}))
"""

KERNELS = {
    "card": {"rates": {"half T(FL)OP/s": 800.0}},
    "nearest": [
        {
            "patches": 784, "d": 384, "rows": 10_000, "k": 1, "edgead_ms": 0.05, "graph_ms": 0.04,
            "kernels_us": {"prepare": 3.0, "products": 60.0, "measure": 10.0}, "torch": {"half": {"ms": 0.1}},
            "products_ms": {"half": 0.02, "int8": 0.01},
        }
    ],
    "maps": [{"shape": [28, 28], "size": [256, 256], "edgead_ms": 0.01, "torch_ms": 0.1}],
}  # fmt: skip

# The driver's card with another name, and less patience with the step that sleeps.
HOUR = """
import sys
from dataclasses import replace
from benchmarks import gpu_first_hour as hour
found, steps = hour.find_card(), hour.plan
assert (found.name, found.cuda_of_driver) == ("Emulated GPU", "13.0"), found
hour.find_card = lambda: replace(found, name="NVIDIA H100 80GB HBM3")
def fewer_seconds(*arguments):
    for step in steps(*arguments):
        yield replace(step, limit_s=2) if step.name == "frames efficient_ad_medium fp32" else step
hour.plan = fewer_seconds
hour.main(sys.argv[1:])
"""


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def test_the_hour_and_its_report(tmp_path):
    if not shutil.which("c++"):
        pytest.skip("DRIVER NOT EMULATED: there is no C++ compiler")
    driver, programs = tmp_path / "driver", tmp_path / "programs"
    driver.mkdir()
    build_driver(driver)
    (tmp_path / "stand_in.py").write_text(textwrap.dedent(STAND_IN))
    (tmp_path / "kernels.json").write_text("{" + json.dumps(KERNELS, indent=1)[1:])
    write_program(tmp_path / "venv/bin/python", f'#!/bin/sh\nexec {sys.executable} {tmp_path}/stand_in.py "$@"\n')
    write_program(programs / "make", "#!/bin/sh\nexit 0\n")
    write_program(
        programs / "compute-sanitizer",
        '#!/bin/sh\necho "a race in $2" >&2; [ "$2" != racecheck ] || exit 9; shift 4; "$@"\n',
    )
    write_program(programs / "nvidia-smi", "#!/bin/sh\necho 580.95, 81559 MiB\n")
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(driver),
        "KERNELS_JSON": str(tmp_path / "kernels.json"),
    }
    environment.pop("CUDAARCHS", None)
    out = tmp_path / "out"
    command = [sys.executable, "-c", HOUR, "-o", out, "--venv", tmp_path / "venv"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "", done.stderr
    assert "send back" in done.stdout and out.with_suffix(".zip").exists()

    report = json.loads((out / "report.json").read_text())
    assert report["finished"] and report["model"] == "H100 SXM"
    bad = {step["step"]: (step["state"], step["why"]) for step in report["steps"] if step["state"] != "done"}
    assert bad == {
        "CUDA kernels": ("failed", "exit code 1: CMake Error: no nvcc"),
        "tests of the kernels": (
            "failed",
            "exit code 1: FAILED tests/base/test_cuda.py::test_bound - AssertionError: 1 != 2; "
            "1 failed, 120 passed in 9.1s",
        ),
        "compute-sanitizer racecheck": ("failed", "exit code 9: a race in racecheck"),
        "frames efficient_ad_medium fp32": ("over its time", "took more than 2 s; last: it printed nothing"),
    }
    assert report["facts"]["driver"] == "580.95, 81559 MiB" and report["facts"]["torch"] == "2.13"
    verdicts = {line["figure"]: (line["verdict"], line["measured"]) for line in report["predictions"]}
    assert verdicts["nearest 784x384x10000 k1 products us"] == ("refuted", 60)
    assert verdicts["nearest 784x384x10000 k1 whole us"] == ("confirmed", 31)
    assert verdicts["nearest 784x384x10000 k1 torch half us"] == ("confirmed", 100)
    assert verdicts["efficient_ad small fp16 network ms"] == ("confirmed", 0.29)
    assert verdicts["efficient_ad medium fp32 network ms"] == ("not measured", None)
    assert report["figures"]["patchcore fp16 frame p99.9 ms"] == 0.6
    assert report["figures"]["patchcore fp16 CUDA graph, 1 if captured"] == 1
    assert {"efficient_ad_medium fp16 engine s", "efficient_ad_medium fp16, again engine s"} < report["figures"].keys()
    assert report["figures"]["tests of TensorRT, passed"] == 7
    assert report["figures"]["patchcore fp16, at once frame at once ms"] == 0.2

    page = (out / "report.md").read_text()
    assert page.startswith("# First hour on NVIDIA H100 80GB HBM3\n\nAll steps had their turn.\n")
    assert "- **CUDA kernels**: failed; exit code 1: CMake Error: no nvcc" in page
    assert "| nearest 784x384x10000 k1 products us | 22 to 30 | 15.4 to 39 | 60 | 2.308 | refuted |" in page
    assert "| frames efficient_ad_medium fp32 | over its time | 2.0 |" in page


class OnCpu:
    """torch's CUDA on a processor, as far as `benchmarks cuda` uses it."""

    def __init__(self, monkeypatch, torch):
        for name in ("empty", "randn", "arange"):
            made = getattr(torch, name)
            monkeypatch.setattr(torch, name, lambda *args, made=made, device=None, **named: made(*args, **named))
        monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
        facts = SimpleNamespace(name="Card", major=9, minor=0, multi_processor_count=1, total_memory=1 << 30)
        # 8192 squared takes minutes here.
        randn = torch.randn
        monkeypatch.setattr(torch, "randn", lambda *shape, **named: randn(64, 64))
        empty = torch.empty
        monkeypatch.setattr(
            torch, "empty", lambda *shape, **named: empty(*([64] if shape == (1 << 28,) else shape), **named)
        )
        for name, stand_in in {
            "is_available": lambda: True,
            "synchronize": lambda: None,
            "get_device_properties": lambda number: facts,
            "current_stream": lambda: SimpleNamespace(cuda_stream=0),
            "Event": Event,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        key = "void edgead::products_kernel<int>(Shape)"
        events = [SimpleNamespace(key=key, self_device_time_total=50.0, count=2), SimpleNamespace(key="Memset")]
        profiler = SimpleNamespace(key_averages=lambda: events)
        monkeypatch.setattr(torch.profiler, "profile", lambda activities: nullcontext(profiler))


class Event:
    def __init__(self, enable_timing):
        self.at = 0.0

    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return 1e3 * (end.at - self.at)


def at(address: int, shape: tuple[int, ...], kind) -> np.ndarray:
    return np.ctypeslib.as_array((kind * int(np.prod(shape))).from_address(address)).reshape(shape)


class Nearest:
    def __init__(self, bank):
        self.dimensions, self.index = bank.shape[1], kernels.NearestPatches(bank)

    def search(self, features, rows, k, target, stream):
        distance, index = self.index.search(at(features, (rows, self.dimensions), ctypes.c_float), k)
        at(target.distance, (rows, k), ctypes.c_float)[...] = distance
        at(target.index, (rows, k), ctypes.c_int32)[...] = index


class Smoother:
    def __init__(self, shape, size, sigma):
        self.shape, self.size, self.sigma = shape, size, sigma

    def __call__(self, scores, target, maximum, stream):
        found, highest = kernels.smooth(at(scores, self.shape, ctypes.c_float), self.size, self.sigma)
        at(target, self.size, ctypes.c_float)[...] = found
        at(maximum, (1,), ctypes.c_float)[...] = highest


def test_the_benchmark_of_kernels_writes_what_is_read(monkeypatch, tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="the benchmark compares with torch")
    from benchmarks import cuda as benchmark

    OnCpu(monkeypatch, torch)
    monkeypatch.setattr(benchmark, "load_cuda", lambda: None)
    monkeypatch.setattr(benchmark.cuda, "NearestPatches", Nearest)
    monkeypatch.setattr(benchmark.cuda, "Smoother", Smoother)
    monkeypatch.setattr(benchmark, "_captured", lambda run: SimpleNamespace(replay=run))
    for name, value in {"SIZES": [(40, 16, 64, 1)], "MAPS": [((7, 7), (32, 32))], "WARM_UP": 1, "REPEATS": 2}.items():
        monkeypatch.setattr(benchmark, name, value)
    benchmark.main(["--json", str(tmp_path / "cuda.json")])
    printed = capsys.readouterr().out
    assert "40 x 16 in 64, k=1: edgead" in printed
    figures = gpu_first_hour.read_kernels(printed + (tmp_path / "cuda.json").read_text())
    assert figures["nearest 40x16x64 k1 products us"] == 25
    assert {
        "nearest 40x16x64 k1 torch half us",
        "nearest 40x16x64 k1 product int8 us",
        "nearest 40x16x64 k1 replayed us",
        "card copy GB/s",
    } < figures.keys()
    assert "map 7x7 to 32x32 edgead us" in figures


class HostDevice:
    """`edgead.runtime.device.Device` whose memory is the host's."""

    stream = 0

    def __init__(self):
        self.memory = []
        self.captured = False

    def current(self):
        return nullcontext()

    def pinned(self, shape, dtype):
        return np.zeros(shape, dtype)

    def allocate(self, nbytes):
        self.memory.append(ctypes.create_string_buffer(nbytes))
        return ctypes.addressof(self.memory[-1])

    def copy_in(self, address, source):
        ctypes.memmove(address, source.ctypes.data, source.nbytes)

    def copy_out(self, target, address):
        ctypes.memmove(target.ctypes.data, address, target.nbytes)

    def wait(self):
        pass

    def capture(self, enqueue):
        self.captured = enqueue()
        return SimpleNamespace(launch=enqueue, close=lambda: None)

    def close(self):
        self.memory.clear()


def test_the_search_alone_writes_what_is_read(monkeypatch, capsys):
    from benchmarks import gpu_search

    device = HostDevice()
    monkeypatch.setattr(gpu_search, "load_cuda", lambda: None)
    monkeypatch.setattr(gpu_search, "open_device", lambda: device)
    monkeypatch.setattr(gpu_search.cuda, "NearestPatches", Nearest)
    for name, value in {"SIZES": [(40, 16, 64, 1)], "ROUNDS": 3, "LAUNCHES": 2}.items():
        monkeypatch.setattr(gpu_search, name, value)
    gpu_search.main([])
    figures = gpu_first_hour.read_searches(capsys.readouterr().out)
    assert figures["nearest 40x16x64 k1 whole us"] > 0 and figures["nearest 40x16x64 k1 as a graph"] == 1
    assert figures["nearest 40x16x64 k1 called us"] > 0
    assert device.captured and not device.memory


def test_the_models_of_the_hour_are_made_where_it_looks_for_them(monkeypatch, tmp_path):
    pytest.importorskip("torch", reason="models are trained")
    from benchmarks import gpu_networks

    done: list[list[str]] = []
    monkeypatch.setattr(gpu_networks, "_edgead", lambda *words: done.append([str(word) for word in words]) or True)
    monkeypatch.setattr("edgead.synthetic.write_dataset", lambda folder, **counts: folder)
    gpu_networks.main([str(tmp_path)])
    trained = [words[words.index("-o") + 1] for words in done if words[0] == "train"]
    assert trained == [str(tmp_path / name) for name in MODELS] == [words[1] for words in done if words[0] == "export"]
    for words in done:
        if "--weights" in words:
            assert Path(words[words.index("--weights") + 1]).stat().st_size > 100_000
    monkeypatch.setattr(gpu_networks, "_edgead", lambda *words: "small" not in str(words))
    with pytest.raises(SystemExit, match="not made: efficient_ad_small$"):
        gpu_networks.main([str(tmp_path / "again")])
