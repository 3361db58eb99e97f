"""Every detector on one data set: trained, judged, exported, proven and timed by the commands that a user gives.

    python -m benchmarks detectors DATA -o WORK [--only NAME ...]

prints two tables. What WORK holds already is not done again, so that a run which was stopped goes on; `--time-again`
repeats the timing alone, which wants an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.interleave import interleave
from benchmarks.machine import disturbance
from edgead.artifact.folder import Artifact
from edgead.dataset.folders import find_test_images
from edgead.detector import Detector
from edgead.images.files import load_image
from edgead.profiling.contention import OtherLoad

RUNTIMES = ("onnxruntime", "openvino")


@dataclass(frozen=True, slots=True)
class Entry:
    """Options of `edgead train`, and what each precision needs beside the defaults of `edgead export`."""

    train: tuple[str, ...]
    export: dict[str, tuple[str, ...]]


AS_IT_IS: dict[str, tuple[str, ...]] = {"fp16": (), "int8": ()}
ENTRIES = {
    "patchcore-fast": Entry(("--preset", "fast"), AS_IT_IS),
    "patchcore": Entry((), AS_IT_IS),
    "patchcore-fine": Entry(("--preset", "fine"), AS_IT_IS),
    # One layer and a quarter of the patches: for defects that are large.
    "patchcore-stride16": Entry(
        ("--layers", "stride16", "--set", "memory_bank_size=20000", "--set", "window=3"), AS_IT_IS
    ),
    "mvg": Entry(("--detector", "mvg"), {"fp16": ("--tolerance", "0.02"), "int8": ()}),
    # The scores of simplenet lie around 0, so that a relative error says little.
    "simplenet": Entry(("--detector", "simplenet"), {"fp16": ("--tolerance", "0.05"), "int8": ("--tolerance", "0.3")}),
    # Good parts move by 3.5 % in int8, half of the layers in float or not.
    "efficient_ad": Entry(("--detector", "efficient_ad"), {"fp16": (), "int8": ("--tolerance", "0.05")}),
    "draem": Entry(("--detector", "draem", "--preset", "cpu"), AS_IT_IS),
}


def main(arguments: list[str]) -> None:
    """Do what is missing, then print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks detectors", description=__doc__)
    parser.add_argument("data", type=Path, help="data set in MVTec layout")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="WORK", help="folder of models and results")
    parser.add_argument("--only", nargs="+", choices=ENTRIES, default=list(ENTRIES))
    parser.add_argument("--precisions", nargs="*", choices=tuple(AS_IT_IS), default=tuple(AS_IT_IS), help="beside fp32")
    parser.add_argument("--draem-steps", type=int, help="a schedule of your own for draem")
    parser.add_argument("--rounds", type=int, default=30, help="timed frames of each graph on each runtime")
    parser.add_argument("--time-again", action="store_true")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    rows = {}
    for name in options.only:
        model, entry = options.output / name, ENTRIES[name]
        fewer = options.draem_steps and name == "draem"
        schedule = ("--set", f"steps={options.draem_steps}") if fewer else ()
        train = partial(_edgead, "train", options.data, "-o", model, *entry.train, *schedule)
        facts = {"train": _once(model, "train", train)}
        facts["eval"] = _once(model, "eval", partial(_edgead, "eval", model, options.data))
        for precision in options.precisions:
            export = partial(_edgead, "export", model, options.data, "--precision", precision, *entry.export[precision])
            facts[precision] = _once(model, precision, export)
        facts["verify"] = _once(model, "verify", partial(_edgead, "verify", model, options.data, "--all"))
        time = partial(_time, model, options.data, options.rounds)
        facts["time"] = _once(model, "time", time, again=options.time_again)
        rows[name] = facts
        print(f"{name}: {json.dumps(facts['time'])}", flush=True)
    print("\n".join(["", *_quality_table(rows), "", *_precision_table(rows, options.precisions)]))


def _once(model: Path, step: str, work: partial[dict[str, Any]], *, again: bool = False) -> dict[str, Any]:
    """Result of a step: what an earlier run wrote beside the model, or that of doing it now."""
    file = model.with_name(f"{model.name}.{step}.json")
    if again or not file.exists():
        file.write_text(json.dumps(work(), indent=1))
    return dict(json.loads(file.read_text()))


def _edgead(*arguments: object) -> dict[str, Any]:
    """Report of a command; `{"refused": why}` where it exits with an error and no report."""
    command = [Path(sys.executable).with_name("edgead"), *map(str, arguments), "--json"]
    print("+ edgead", *arguments, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        return {"refused": done.stderr.rpartition("error: ")[2].strip() or f"exit status {done.returncode}"}


def _time(model: Path, data: Path, rounds: int) -> dict[str, Any]:
    """Median milliseconds of a frame, and of its network alone, by runtime and precision, interleaved."""
    artifact = Artifact.load(model)
    files = (artifact.model_path, *(model / file for file in artifact.manifest.arrays.values()))
    image = load_image(next(test.path for test in find_test_images(data) if not test.is_defective))
    load = OtherLoad()
    pairs = [(runtime, precision) for runtime in RUNTIMES for precision in artifact.precisions]
    with ExitStack() as stack:
        detectors = {
            f"{runtime} {precision}": stack.enter_context(Detector.load(model, runtime=runtime, precision=precision))
            for runtime, precision in pairs
        }
        networks: dict[str, list[float]] = {name: [] for name in detectors}

        def judge(name: str) -> None:
            networks[name].append(detectors[name].predict(image).stage_times.infer_ms)

        frames = interleave({name: partial(judge, name) for name in detectors}, rounds)
    return {
        "frame_ms": {name: round(timing.median_ms, 2) for name, timing in frames.items()},
        "network_ms": {name: round(statistics.median(values), 2) for name, values in networks.items()},
        "fp32_mib": round(sum(file.stat().st_size for file in files) / 2**20, 2),
        "other_load": disturbance(load.use()),
    }


def _quality_table(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "| | image AUROC | pixel AUROC | AUPRO | good parts rejected | defects passed | training | size |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, facts in rows.items():
        judged, trained = facts["eval"], facts["train"]
        pixels = [judged[metric] for metric in ("pixel_AUROC", "AUPRO")]
        wrong = [f"{judged[rate]['count']} of {judged[rate]['total']}" for rate in ("false_reject_rate", "escape_rate")]
        cells = [f"{judged['image_AUROC']:.3f}", *(f"{pixel:.2f}" for pixel in pixels), *wrong]
        lines.append(_row(name, *cells, f"{trained['fit_seconds']:.0f} s", f"{facts['time']['fp32_mib']:.1f} MiB"))
    return lines


def _precision_table(rows: dict[str, dict[str, Any]], precisions: Sequence[str]) -> list[str]:
    lines = [
        "| | precision | image AUROC, ONNX Runtime / OpenVINO | score error | frame | network | network against fp32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, facts in rows.items():
        verified = {(pair["runtime"], pair["precision"]): pair for pair in facts["verify"]["pairs"]}
        for precision in ("fp32", *precisions):
            if "refused" in facts.get(precision, {}):
                why, _, _ = facts[precision]["refused"].partition(":")
                lines.append(_row(name, precision, f"refused: {why}", *[""] * 4))
                continue
            pairs = [verified[runtime, precision] for runtime in RUNTIMES]
            frames, networks, at_fp32 = (
                [facts["time"][what][f"{runtime} {of}"] for runtime in RUNTIMES]
                for what, of in (("frame_ms", precision), ("network_ms", precision), ("network_ms", "fp32"))
            )
            ratios = [f"{before / now:.2f}" for before, now in zip(at_fp32, networks, strict=True)]
            lines.append(
                _row(
                    name,
                    precision,
                    " / ".join(f"{pair['image_AUROC']:.4f}" for pair in pairs),
                    " / ".join(f"{pair['score_error']:.1e}" for pair in pairs),
                    " / ".join(f"{value:.1f}" for value in frames) + " ms",
                    " / ".join(f"{value:.1f}" for value in networks) + " ms",
                    " / ".join(ratios),
                )
            )
    return lines


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
