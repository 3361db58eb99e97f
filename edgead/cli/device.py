"""Verbs of a device, without torch: `eval`, `report`, `predict`, `stream`, `engine`, `doctor` and `demo`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from edgead.cli.app import Group, Json, Model, app, find_images, print_report
from edgead.cli.choices import Language, PaletteName, Precision, Runtime
from edgead.cli.console import (
    FrameCount,
    edgead_command,
    evaluation_table,
    exit_on_failures,
    facts_table,
    next_steps,
    stage_bars,
    stderr,
    warn,
)
from edgead.cli.profile import Affinity, Fifo, read_scheduling
from edgead.errors import SettingsError

TestSet = Annotated[
    Path,
    typer.Argument(
        help="Data set in MVTec or another layout, a file that lists images, or a folder of good and kinds of defects.",
        metavar="DATA",
    ),
]
LeftOut = Annotated[bool, typer.Option("--left-out", help="Measure learnt images too, each as if not learnt.")]


@app.command(name="eval")
def evaluate_command(
    model: Model,
    data: TestSet,
    sheet: Annotated[Path | None, typer.Option(help="File for the contact sheet of the worst cases.")] = None,
    group: Group = "auto",
    left_out: LeftOut = False,
    runtime: Runtime = "auto",
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Measure a model on test images with known defects that it has not learnt; exit 1 when some cannot be read."""
    from edgead.detector import Detector
    from edgead.report.findings import examine_guarantees
    from edgead.report.folder import evaluate_folder
    from edgead.report.worst_cases import write_worst_cases

    with Detector.load(model, runtime=runtime, precision=precision) as detector, stage_bars() as progress:
        evaluation = evaluate_folder(detector, data, group, progress, left_out=left_out)
        report = evaluation.to_dict()
        limits = detector.graph.calibration
        if sheet is not None:
            write_worst_cases(detector, evaluation, sheet)
            report["contact_sheet"] = str(sheet)
    print_report(report, json, lambda: evaluation_table(report))
    warn(report["warnings"])
    if not json:
        if limits is not None and evaluation.advice:
            print(f"The limit is {examine_guarantees(limits, evaluation)[0].comparison}: more than chance.")
            print(evaluation.advice)
        page = edgead_command("report", model, data, *["--left-out"] * left_out, "-o", "report.html")
        print(*next_steps((page, "shows the mistakes, and what other limits do")), sep="\n")
    if evaluation.unreadable:
        raise typer.Exit(1)


@app.command()
def report(
    model: Model,
    data: TestSet,
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the page.")] = Path("report.html"),
    group: Group = "auto",
    left_out: LeftOut = False,
    runtime: Runtime = "auto",
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Measure a model on test images with known defects, and write an HTML page to read, print and file."""
    from edgead.detector import Detector
    from edgead.report.folder import report_folder

    with Detector.load(model, runtime=runtime, precision=precision) as detector, stage_bars() as progress:
        found = report_folder(detector, data, output, group, progress, left_out=left_out)
    reported = {**found.metrics, "page": str(output)}
    print_report(reported, json, lambda: evaluation_table(reported))
    warn(reported["warnings"])
    if not json:
        print(f"The page is {output}.")
    if reported["unreadable_images"]:
        raise typer.Exit(1)


@app.command()
def predict(
    model: Model,
    images: Annotated[list[Path], typer.Argument(help="Images, volumes, or folders; subfolders are searched too.")],
    heat_maps: Annotated[
        Path | None, typer.Option(help="Folder for copies of the images with the heat map drawn on them.")
    ] = None,
    palette: Annotated[
        PaletteName,
        typer.Option(help="Colours of heat maps; blue is seen better on yellow, brown and red parts."),
    ] = "warm",
    csv: Annotated[Path | None, typer.Option(help="CSV file for the table of the verdicts.")] = None,
    runtime: Runtime = "auto",
    precision: Precision = None,
    language: Language = "en",
    json: Json = False,
) -> None:
    """Judge images; exit 1 when some of them cannot be judged, 2 when none can."""
    from edgead.cli.advice import without_thresholds
    from edgead.cli.console import stdout
    from edgead.cli.predict_files import (
        predict_images,
        predict_volumes,
        verdict_table,
        volume_table,
        without_heat_maps,
        write_verdicts,
    )
    from edgead.detector import Detector

    paths = find_images(images)
    if heat_maps is not None:
        paths = without_heat_maps(paths, images, heat_maps)
    with Detector.load(model, runtime=runtime, precision=precision) as detector, stage_bars() as progress:
        judged = partial(progress, "judge images")
        rows, warnings = predict_images(detector, paths, heat_maps, palette, progress=judged)
        volumes = predict_volumes(detector, rows)
        if any(row.get("decision", "") is None for row in volumes):
            warnings.append(
                "the model has no limits for whole volumes: train or calibrate it with as many as the rate needs"
            )
        if detector.threshold is None:
            warnings.append(without_thresholds(model))
    if csv is not None:
        write_verdicts(rows, csv, volumes)
    written = [f"Heat maps are in {heat_maps}."] if heat_maps is not None else []
    written += [f"The table is {csv}."] if csv is not None else []
    report = {"model": str(model), "images": rows, **({"volumes": volumes} if volumes else {}), "warnings": warnings}
    print_report(report, json, lambda: verdict_table(rows, language, written))
    if volumes and not json:
        stdout.print(volume_table(volumes), crop=False)
    warn(warnings)
    if not json and not warnings and any(row.get("decision") == "reject" for row in rows):
        given = images[0] if len(images) == 1 else "IMAGES"
        sort_them = edgead_command("sort", model, given, "-o", "kinds"), "sorts the rejects into kinds"
        learn = edgead_command("teach", model, "GOOD_IMAGES"), "learns parts that were rejected and are good"
        print(*next_steps(sort_them, learn), sep="\n")
    exit_on_failures(rows, "could not be judged")


@app.command()
def stream(
    model: Model,
    source: Annotated[str, typer.Argument(help="A video, an image, a folder or a glob, or {sources}.")],
    sink: Annotated[list[str] | None, typer.Option(help="{sinks}.")] = None,
    late_after_ms: Annotated[float | None, typer.Option(min=0, help="Count frames older than this as late.")] = None,
    build_engine: Annotated[
        bool,
        typer.Option(
            "--build-engine", help="Switch to TensorRT when its engine is built; ONNX Runtime judges until then."
        ),
    ] = False,
    affinity: Affinity = None,
    fifo: Fifo = None,
    runtime: Runtime = "auto",
    precision: Precision = None,
    language: Language = "en",
    json: Json = False,
) -> None:
    """Judge the frames of a source until it ends; exit 1 after a fault (such as a failed source) or broken images."""
    from edgead.detector import Detector
    from edgead.detector.handover import load_building
    from edgead.stream import run

    if json and "jsonl:-" in (sink or []):
        raise SettingsError("--json and jsonl:- both write to standard output: give the sink a file")
    if build_engine and runtime not in ("auto", "tensorrt"):
        raise SettingsError(f"--build-engine goes over to TensorRT, not to {runtime}: leave one of them out")
    scheduling = read_scheduling(affinity, fifo)
    open_detector = load_building if build_engine else partial(Detector.load, runtime=runtime)
    with open_detector(model, precision=precision) as detector:
        summary = run(
            source,
            detector,
            sink or [],
            on_verdict=FrameCount(language),
            late_after_ms=late_after_ms,
            scheduling=scheduling,
        )
    report = summary.to_dict()
    print_report(report, json, summary.table)
    warn(filter(None, [summary.advice]))
    if summary.fault:
        stderr.print(f"fault: {summary.fault}", style="bold red", soft_wrap=True)
    if summary.unreadable:
        stderr.print(f"{summary.unreadable} of {summary.captured} images could not be read", style="bold red")
    if summary.fault or summary.unreadable:
        raise typer.Exit(1)


@app.command()
def engine(
    model: Model,
    target: Annotated[
        str,
        typer.Option(
            help="GPU to build for: current (the GPU of this machine), sm75, sm80, sm86, sm89, sm120 or sm121."
        ),
    ] = "current",
    precision: Precision = None,
    batch: Annotated[
        int,
        typer.Option(min=1, max=64, help="Most images at a time: tiles of a frame, or images of a list in Python."),
    ] = 1,
    json: Json = False,
) -> None:
    """Build a TensorRT engine and keep it in the model's folder engines/."""
    from edgead.artifact.folder import Artifact
    from edgead.runtime.engine import make_engine

    with stderr.status("building the engine, on a small device this may take minutes"):
        path, stamp = make_engine(Artifact.load(model), target=target, precision=precision, batch=batch)
    if stamp.precision == "fp32":
        slow = "fp32 is computed without TF32, several times as slowly as fp16 by our estimate"
        remedy = f"`edgead export {model} DATA --precision fp16`, then --precision fp16 here"
        warn([f"{slow}; {remedy}"])
    report = {"engine": str(path), "engine_mib": path.stat().st_size / 2**20, **stamp.model_dump(mode="json")}
    print_report(report, json, lambda: facts_table(str(model), report))


@app.command()
def doctor(
    model: Annotated[
        Path | None, typer.Argument(help="Directory of a trained model, to find out which runtime judges its frames.")
    ] = None,
    cameras: Annotated[bool, typer.Option(help="Open every camera and read a frame.")] = True,
    json: Json = False,
) -> None:
    """Try the parts of this machine that edgead can use, and report the results; exit 1 when a required part fails."""
    from edgead.cli.doctor import examination_table, examine, is_fit

    findings = examine(probe_cameras=cameras, model=model)
    print_report(findings, json, lambda: examination_table(findings))
    if not is_fit(findings):
        raise typer.Exit(1)


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Your own images in MVTec layout, instead of the built-in line.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder for all files of the demo: a new folder, or the folder of an earlier demo."
        ),
    ] = Path("out/demo"),
    preset: Annotated[str, typer.Option(help="Preset of the model: fast, default or fine.")] = "default",
    json: Json = False,
) -> None:
    """Train, export, verify and stream, on the built-in production line or on your own images."""
    from edgead.cli.demo import run_demo

    report = run_demo(output, data, preset=preset)
    print_report(report.to_dict(), json, report.table)
    if not json:
        print(f"\n{report.ending()}")
    if not report.passed:
        raise typer.Exit(1)
