"""First hour on an NVIDIA card: installs, builds, tests and measures, and writes one folder to send back.

    make gpu-first-hour
    python3 -m benchmarks gpu_first_hour -o out/gpu-first-hour

Needs Python alone, and starts with the card: where there is none, it says so and ends. Each step is a process with a
limit of its own, all limits together are less than an hour. A step that fails or takes too long is named with the
reason, and the next one begins. The report is written again after each step, so that what was measured stays.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu_networks import PRESETS
from benchmarks.gpu_predictions import compare

ROOT = Path(__file__).resolve().parent.parent
HOUR_S = 3600
# Frames of one profile: fewer than 1,000 have no p99.9.
FRAMES = 1000
SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")
PRECISIONS = ("fp32", "fp16")
MODELS = ("patchcore", *(f"efficient_ad_{size}" for size in PRESETS))
# Frames of these are timed at once too, so many in a run: with a search, and where launches take most of the time.
AT_ONCE, IMAGES = (MODELS[0], MODELS[1]), 4
MAX_NAMED = 5  # tests that failed
# Where NVIDIA's packages put their programs; on a Jetson that is not on the PATH.
TOOLKIT = "/usr/local/cuda/bin"
# Of tests of what a machine with a card lacks, or has another library for.
CHOSEN = "not missing and not without and not PyCuda"
_CUDA = "cuda cuda_measure cuda_order cuda_resize cuda_scores"
KERNEL_TESTS = [
    f"tests/base/test_{name}.py" for name in f"{_CUDA} kernels_nearest kernels_grouped kernels_maps".split()
]
KERNEL_TESTS += [f"tests/model/test_{name}.py" for name in ("device", "device_scoring", "engine_runtime")]
_COMPUTE_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_MULTIPROCESSORS = 16

Figures = dict[str, Any]


class NoCardError(Exception):
    """There is no card that can be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Card:
    """What the driver says of the first card."""

    name: str
    board: str
    compute_capability: str
    multiprocessors: int
    cuda_of_driver: str


@dataclass(frozen=True, slots=True)
class Step:
    """One process.

    Attributes
    ----------
    name : str
    command : list of str
        Run in the checkout.
    limit_s : float
    environment : dict
        Beside that of this process.
    read : callable, optional
        Gives figures, or facts in words, by what it wrote to standard output.
    """

    name: str
    command: list[str]
    limit_s: float
    environment: dict[str, str] = field(default_factory=dict)
    read: Callable[[str], Figures] = lambda output: {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a step; `why` is empty where it was done."""

    step: str
    state: str  # "done", "failed", "over its time" or "left out"
    why: str
    seconds: float
    command: str
    figures: Figures


def main(arguments: list[str]) -> None:
    """Run all steps; exit with 1 without a card, and where a step failed."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks gpu_first_hour", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("-o", "--output", type=Path, default=Path("out/gpu-first-hour"), help="folder for the report")
    parser.add_argument("--venv", type=Path, default=Path(".venv"), help="environment, made where there is none")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each model and precision")
    parser.add_argument("--only", metavar="PATTERN", default="", help="run the steps whose names have this alone")
    options = parser.parse_args(arguments)
    try:
        card = find_card()
    except NoCardError as error:
        sys.exit(f"there is no NVIDIA card that can be used here: {error}. Nothing was built and nothing measured.")
    print(f"{card.name}, {card.compute_capability}; the report goes to {options.output}", flush=True)
    with tempfile.TemporaryDirectory(prefix="edgead-gpu-") as models:
        steps = list(plan(options.venv.absolute() / "bin" / "python", card, Path(models), options.frames))
        chosen = [step for step in steps if re.search(options.only, step.name)]
        outcomes = run_all(chosen, card, options.output)
    archive = shutil.make_archive(str(options.output), "zip", options.output)
    print(f"send back {archive}; look through it first, its logs name folders of this machine", flush=True)
    if any(outcome.state in ("failed", "over its time") for outcome in outcomes):
        sys.exit(1)


def find_card() -> Card:
    """Ask the driver itself, which every system with a card has, for the first card.

    Raises
    ------
    NoCardError
        If there is no driver, or it offers no card.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise NoCardError(f"the driver is missing ({error})") from None
    if status := driver.cuInit(0):
        raise NoCardError(f"the driver answers cuInit with error {status}; see what nvidia-smi says")
    device, value, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    if status := driver.cuDeviceGet(ctypes.byref(device), 0):
        raise NoCardError(f"the driver lists none (error {status}); in a container, start it with --gpus all")
    driver.cuDeviceGetName(name, len(name), device)
    numbers = []
    for attribute in (*_COMPUTE_CAPABILITY, _MULTIPROCESSORS):
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        numbers.append(value.value)
    driver.cuDriverGetVersion(ctypes.byref(value))
    cuda = f"{value.value // 1000}.{value.value % 1000 // 10}"
    board = Path("/proc/device-tree/model")
    of_board = board.read_text().rstrip("\0\n") if board.exists() else ""
    return Card(name.value.decode(), of_board, f"{numbers[0]}.{numbers[1]}", numbers[2], cuda)


def plan(python: Path, card: Card, models: Path, frames: int = FRAMES) -> Iterator[Step]:
    """Make the steps of the hour, in their order."""
    edgead = [str(python), "-c", "from edgead.cli import main; main()"]
    pytest = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    venv = python.parent.parent
    yield Step("install", ["make", f"VENV={venv}", f"{venv}/dev.stamp"], 540)
    # The wheels of TensorRT and of cuda-bindings are of one CUDA each, and it must be the driver's.
    major = card.cuda_of_driver.partition(".")[0]
    bindings = "cuda-bindings>=12.6,<13" if major == "12" else "cuda-bindings>=13"
    run = shlex.quote(str(python))
    pip = f"{run} -m pip install --disable-pip-version-check"
    tensorrt = f"{run} -c 'import tensorrt' || {pip} 'tensorrt-cu{major}>=10'"
    yield Step("TensorRT", ["sh", "-c", f"{pip} '{bindings}' && {{ {tensorrt}; }}"], 300)
    if major == "12" and platform.machine() == "x86_64":  # PyPI's is for CUDA 13
        works = f"{run} -c 'import torch; assert torch.cuda.is_available()'"
        index = "https://download.pytorch.org/whl/cu126"
        other = f"{pip} --force-reinstall --no-deps torch torchvision --index-url {index} && {pip} torch torchvision"
        yield Step("torch for CUDA 12", ["sh", "-c", f"{works} || {{ {other}; }}"], 200)
    build = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--editable", "."]
    yield Step("CUDA kernels", build, 290, {"EDGEAD_CUDA": "1", "CUDAARCHS": os.environ.get("CUDAARCHS", "native")})
    yield Step("versions", [str(python), "-c", _VERSIONS], 40, read=json.loads)
    yield Step("doctor", [*edgead, "doctor", "--no-cameras", "--json"], 60, read=read_doctor)
    tests = [*pytest, "-k", CHOSEN, *KERNEL_TESTS]
    yield Step("tests of the kernels", tests, 420, {"EDGEAD_REQUIRE": "cuda"}, read_tests)
    required = {"EDGEAD_REQUIRE": "cuda,tensorrt"}
    yield Step("tests of TensorRT", [*pytest, "tests/model/test_tensorrt.py"], 150, required, read_tests)
    for tool in SANITIZERS:
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *pytest]
        quick = ["-k", "on_device or parts", "tests/base/test_cuda.py"]
        yield Step(f"compute-sanitizer {tool}", [*command, *quick], 60, {"EDGEAD_REQUIRE": "cuda"}, read_tests)
    alone = [str(python), "-m", "benchmarks", "gpu_search"]
    yield Step("kernels alone", alone, 60, read=read_searches)
    found = shlex.quote(str(models / "kernels.json"))
    measured = f"{run} -m benchmarks cuda --json {found} && cat {found}"
    yield Step("kernels against torch", ["sh", "-c", measured], 150, read=read_kernels)
    yield Step("models", [str(python), "-m", "benchmarks", "gpu_networks", str(models)], 210)
    for name in MODELS:
        model = str(models / name)
        for precision in PRECISIONS:
            asked = [model, "--precision", precision, "--json"]
            yield Step(f"engine {name} {precision}", [*edgead, "engine", *asked], 55, read=read_engine)
            command = [*edgead, "profile", *asked, "--runtime", "tensorrt", "-n", str(frames)]
            yield Step(f"frames {name} {precision}", command, 40, read=read_profile)
    # What the timing cache saves: the same engine once more.
    asked = [str(models / MODELS[-1]), "--precision", "fp16", "--json"]
    yield Step(f"engine {MODELS[-1]} fp16, again", [*edgead, "engine", *asked], 55, read=read_engine)
    for name in AT_ONCE:  # last: this engine takes the place of the other
        asked = [str(models / name), "--precision", "fp16"]
        command = [*edgead, "engine", *asked, "--batch", str(IMAGES), "--json"]
        yield Step(f"engine {name} fp16, of {IMAGES} images", command, 40, read=read_engine)
        command = [str(python), "-m", "benchmarks", "gpu_batch", *asked]
        yield Step(f"frames {name} fp16, at once", command, 20, read=json.loads)


# JetPack's TensorRT has its version in the module, and no metadata.
_VERSIONS = """
import importlib, json
def version(name):
    try:
        return str(importlib.import_module(name).__version__)
    except Exception as error:
        return f"none ({type(error).__name__}: {error})"
names = "edgead numpy torch onnxruntime tensorrt tensorrt_rtx_bindings cuda.bindings".split()
print(json.dumps({name: version(name) for name in names}))
"""


def run_all(steps: Sequence[Step], card: Card, output: Path) -> list[Outcome]:
    """Run the steps one after the other, and write the report after each."""
    logs = output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    facts = asdict(card) | machine_facts()
    outcomes: list[Outcome] = []
    write_report(output, facts, outcomes, begun=bool(steps))
    for number, step in enumerate(steps, 1):
        print(f"[{number}/{len(steps)}] {step.name}, at most {step.limit_s:g} s ... ", end="", flush=True)
        outcome = run_step(step, logs / f"{number:02}-{re.sub(r'[^A-Za-z0-9_]+', '-', step.name)}")
        print(f"{outcome.state}, {outcome.seconds:.0f} s{': ' if outcome.why else ''}{outcome.why}", flush=True)
        outcomes.append(outcome)
        write_report(output, facts, outcomes, begun=number < len(steps))
    return outcomes


def run_step(step: Step, log: Path) -> Outcome:
    """Run one step to its end or its limit; its output lies in files that begin with `log`."""
    begin = time.monotonic()

    def outcome(state: str, why: str = "", figures: Figures | None = None) -> Outcome:
        return Outcome(step.name, state, why, time.monotonic() - begin, " ".join(step.command), figures or {})

    environment = os.environ | {"COLUMNS": "240", "PYTHONUNBUFFERED": "1"} | step.environment
    environment["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), TOOLKIT])
    if shutil.which(step.command[0], path=environment["PATH"]) is None:
        return outcome("left out", f"{step.command[0]} is not there, neither on the PATH nor in {TOOLKIT}")
    stdout, stderr = log.with_suffix(".out"), log.with_suffix(".err")
    with stdout.open("wb") as out, stderr.open("wb") as err:
        # In a session of its own, so that what it starts ends with it.
        process = subprocess.Popen(
            step.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(step.limit_s)
        except subprocess.TimeoutExpired:
            return outcome("over its time", f"took more than {step.limit_s:g} s; last: {reason(stdout, stderr)}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status:
        return outcome("failed", f"exit code {status}: {reason(stdout, stderr)}")
    try:
        return outcome("done", figures=step.read(stdout.read_text(errors="replace")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return outcome("failed", f"what it printed cannot be read ({type(error).__name__}: {error})")


def reason(stdout: Path, stderr: Path) -> str:
    """The last line of standard error, or else of standard output; before it the tests that failed, where some did."""
    output, errors = (
        [line.strip() for line in file.read_text(errors="replace").splitlines() if line.strip()]
        for file in (stdout, stderr)
    )
    tests = [line for line in output if line.startswith(("FAILED ", "ERROR "))][:MAX_NAMED]
    last = (output if tests else errors or output or ["it printed nothing"])[-1]
    return "; ".join(line[:300] for line in [*tests, last])


def machine_facts() -> dict[str, str]:
    """What is known of system, driver, toolkit and clocks without any package."""
    clocks = "clocks.max.sm,clocks.max.mem,clocks.sm,clocks.mem"
    asked = {
        "driver": ["nvidia-smi", "--format=csv,noheader", "--query-gpu=driver_version,memory.total,power.limit"],
        "clocks": ["nvidia-smi", "--format=csv,noheader", f"--query-gpu={clocks}"],
        "nvcc": ["nvcc", "--version"],
        "nvpmodel": ["nvpmodel", "-q"],
        "commit": ["git", "rev-parse", "HEAD"],
    }
    facts = {"system": platform.platform(), "python": platform.python_version(), "cpu_cores": str(os.cpu_count())}
    release = Path("/etc/nv_tegra_release")
    if release.exists():
        facts["l4t"] = release.read_text().splitlines()[0]
    return facts | {name: _answer(command) for name, command in asked.items()}


def _answer(command: list[str]) -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), TOOLKIT])
    program = shutil.which(command[0], path=path)
    if program is None:
        return f"{command[0]} is not installed"
    try:
        done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return f"{command[0]} does not answer"
    return "; ".join((done.stdout or done.stderr).strip().splitlines()[-2:])


def read_tests(output: str) -> Figures:
    """Counts in the last line of pytest."""
    counts = re.findall(r"(\d+) (passed|failed|error|skipped|deselected)", output.splitlines()[-1])
    if not counts:
        raise ValueError("no line of pytest's counts")
    return {what: int(count) for count, what in counts}


def read_searches(output: str) -> Figures:
    """Times of `benchmarks gpu_search`, by the names of the model's predictions."""
    return {f"{size} {name}": value for size, found in json.loads(output).items() for name, value in found.items()}


def read_kernels(output: str) -> Figures:
    """Times of `benchmarks cuda`, by the names of the model's predictions."""
    found = json.loads(output[output.index("\n{") :])
    figures = {f"card {name}": float(value) for name, value in found["card"]["rates"].items()}
    for one in found["nearest"]:
        name = f"nearest {one['patches']}x{one['d']}x{one['rows']} k{one['k']}"
        figures |= {f"{name} launched us": 1e3 * one["edgead_ms"], f"{name} replayed us": 1e3 * one["graph_ms"]}
        figures |= {f"{name} {part} us": us for part, us in one["kernels_us"].items()}
        figures |= {f"{name} torch {other} us": 1e3 * of["ms"] for other, of in one["torch"].items()}
        figures |= {f"{name} product {kind} us": 1e3 * ms for kind, ms in one["products_ms"].items()}
    for one in found["maps"]:
        name = "map {}x{} to {}x{}".format(*one["shape"], *one["size"])
        figures |= {f"{name} edgead us": 1e3 * one["edgead_ms"], f"{name} torch us": 1e3 * one["torch_ms"]}
    return figures


def read_doctor(output: str) -> Figures:
    found = json.loads(output)
    return {f"doctor, {name}": found[name]["detail"] for name in ("cuda kernels", "tensorrt")}


def read_engine(output: str) -> Figures:
    return {"engine MiB": json.loads(output)["engine_mib"]}


def read_profile(output: str) -> Figures:
    """Percentiles of the network and of the whole frame."""
    report = json.loads(output)
    latency = report["latency"]
    names = {"p50": "p50_ms", "p99": "p99_ms", "p99.9": "p99_9_ms"}
    stages = {"network": "infer", "frame": "total"}
    values = {f"{stage} {name} ms": latency[of][key] for stage, of in stages.items() for name, key in names.items()}
    measured = {name: value for name, value in values.items() if value is not None}
    return measured | {"CUDA graph, 1 if captured": int(report["launches"].startswith("as one CUDA graph"))}


def figures_of(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """All figures by one name each; the network's median by the name of its prediction too."""
    figures: dict[str, float] = {}
    for outcome in outcomes:
        kind, _, model = outcome.step.partition(" ")
        if kind == "kernels":
            figures |= outcome.figures
        elif kind in ("frames", "engine"):
            figures |= {f"{model} {name}": value for name, value in outcome.figures.items()}
            if kind == "engine" and outcome.state == "done":
                figures[f"{model} engine s"] = outcome.seconds
            if "network p50 ms" in outcome.figures:
                named = model.replace("efficient_ad_", "efficient_ad ")
                figures[f"{named} network ms"] = outcome.figures["network p50 ms"]
        elif kind in ("tests", "compute-sanitizer"):
            figures |= {f"{outcome.step}, {name}": value for name, value in outcome.figures.items()}
    return figures


def write_report(output: Path, facts: dict[str, Any], outcomes: Sequence[Outcome], *, begun: bool) -> None:
    """Write report.json and report.md; `begun` where more steps follow."""
    figures = figures_of(outcomes)
    model, lines = compare(f"{facts['name']} {facts['board']} {facts['nvpmodel']}", figures)
    in_words = {k: v for one in outcomes if one.step in ("versions", "doctor") for k, v in one.figures.items()}
    report = {
        "finished": not begun, "facts": facts | in_words, "model": model, "predictions": lines, "figures": figures,
        "steps": [asdict(outcome) for outcome in outcomes],
    }  # fmt: skip
    (output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (output / "report.md").write_text("\n".join(_markdown(report)) + "\n")


def _markdown(report: dict[str, Any]) -> Iterator[str]:
    steps = report["steps"]
    bad = [step for step in steps if step["state"] != "done"]
    minutes = sum(step["seconds"] for step in steps) / 60
    yield f"# First hour on {report['facts']['name']}\n"
    yield "All steps had their turn." if report["finished"] else "**Not finished: more steps were to follow.**"
    yield f"Done: {len(steps) - len(bad)} of {len(steps)}, in {minutes:.0f} minutes.\n"
    yield from _table(("what", "found"), report["facts"].items())
    yield "\n## What failed or was left out\n"
    yield from [f"- **{step['step']}**: {step['state']}; {step['why']}" for step in bad] or ["Nothing."]
    yield "\n## The performance model\n"
    if report["model"] is None:
        yield "It predicts nothing for this card. What was measured stands below."
    else:
        yield f"Of {report['model']}. Confirmed is what lies within its limits; the ratio is measured / predicted.\n"
        rows = (
            [p["figure"], _range(p["low"], p["high"]), _range(*p["refuted"]), _number(p["measured"])]
            + [_number(p["ratio"]), p["verdict"]]
            for p in report["predictions"]
        )
        yield from _table(("prediction", "predicted", "limits", "measured", "ratio", "verdict"), rows)
    yield "\n## Steps\n"
    yield from _table(("step", "result", "s"), ((s["step"], s["state"], f"{s['seconds']:.1f}") for s in steps))
    yield "\n## Figures\n"
    yield from _table(("figure", "measured"), ((name, _number(value)) for name, value in report["figures"].items()))


def _range(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}" if low < high else _number(low)


def _table(head: Sequence[str], rows: Any) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"


def _number(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"


if __name__ == "__main__":
    main(sys.argv[1:])
