"""The command `edgead`: one verb a job. Exit codes: 0 ok, 1 a gate failed, 2 wrong usage or unusable input."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
import yaml

from edgead.artifact import Artifact
from edgead.console import (
    FrameCount,
    evaluation_table,
    facts_table,
    parity_table,
    print_json,
    stage_bars,
    stderr,
    stdout,
    training_facts,
)
from edgead.dataset import find_test_images
from edgead.errors import EdgeadError, SettingsError
from edgead.images import is_image_path, list_images, load_image

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Model = Annotated[Path, typer.Argument(help="Directory of a trained model.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
Threads = Annotated[int | None, typer.Option(min=1, max=256, help="Threads; by default all cores that edgead may use.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from edgead import __version__

        print(__version__)
        raise typer.Exit()


@app.callback()
def _settings(
    threads: Threads = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    if threads is not None:
        import cv2

        from edgead import kernels

        kernels.set_threads(threads)
        cv2.setNumThreads(threads)


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="MVTec layout (train/good), or any folder with --normal-dir.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the model to write.")],
    detector: Annotated[str, typer.Option(help="Method.")] = "patchcore",
    preset: Annotated[
        str, typer.Option(help="Settings of the method: default, or one that the README lists.")
    ] = "default",
    normal_dir: Annotated[str | None, typer.Option(help="Folder of good images below DATA; . is DATA itself.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Backbone, instead of the preset's.")] = None,
    layers: Annotated[str | None, typer.Option(help="Layers, such as stride16,stride32.")] = None,
    image_size: Annotated[str | None, typer.Option(help="One number, or HEIGHT,WIDTH.")] = None,
    memory_bank_size: Annotated[int | None, typer.Option(min=1, help="Rows of the memory bank.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting of the method, as NAME=VALUE; may be repeated.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights of the backbone: safetensors or a state dict. Of efficient_ad: a teacher."),
    ] = None,
    roi: Annotated[str | None, typer.Option(help="Part of the picture to look at: X,Y,WIDTH,HEIGHT in pixels.")] = None,
    false_reject_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good parts that may be rejected; by default the strictest that the images support."
        ),
    ] = None,
    review_rate: Annotated[
        float | None, typer.Option(help="Share of good parts that may go to review or reject.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
    device: Annotated[str, typer.Option(help="Where to train: auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of all that is random.")] = 0,
    json: Json = False,
) -> None:
    """Learn from good images and write a finished, calibrated model.

    A training that was stopped goes on where it was when the same command is given again.
    """
    from edgead.export.from_folder import GoodImages, train_from_folder
    from edgead.train import find_preset

    chosen = {
        "backbone": backbone,
        "layers": layers and [layer.strip() for layer in layers.split(",")],
        "image_size": image_size and _numbers("--image-size", image_size, (1, 2), repeat=2),
        "memory_bank_size": memory_bank_size,
        "seed": seed,
    }
    chosen = {key: value for key, value in chosen.items() if value is not None}
    settings = {**find_preset(detector, preset), **chosen, **dict(map(_setting, setting or []))}
    region = _numbers("--roi", roi, (4,)) if roi else None
    good = GoodImages(data, normal_dir, region, false_reject_rate, review_rate, skip_bad)
    with stage_bars() as progress:
        artifact, problems = train_from_folder(
            good, output, settings, detector=detector, weights=weights, device=device, progress=progress
        )
    report = {"model": str(output), "skipped": problems, **training_facts(artifact)}
    _report(
        report,
        json,
        lambda: facts_table(f"{output}", {k: v for k, v in report.items() if k != "skipped" or v}),
    )


@app.command()
def distill(
    images: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them; of anything but the product.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the teacher, safetensors.")],
    backbone: Annotated[
        str, typer.Option(help="Pretrained network that the teacher learns from.")
    ] = "efficientnet_lite2",
    model_size: Annotated[str, typer.Option(help="small, medium or nano.")] = "small",
    steps: Annotated[int | None, typer.Option(min=1, help="Updates; the paper makes 60000.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, as NAME=VALUE; may be repeated.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights of the backbone: safetensors or a state dict.")] = None,
    features: Annotated[
        Path | None, typer.Option(help="Folder to keep the backbone's features in, for another size.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to train: auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of all that is random.")] = 0,
    json: Json = False,
) -> None:
    """Make a teacher for efficient_ad from photographs; `edgead train --detector efficient_ad --weights FILE` uses it.

    A distillation that was stopped goes on where it was when the same command is given again.
    """
    from edgead.train.device import choose_device
    from edgead.train.distill import DistillConfig
    from edgead.train.distill import distill as distill_teacher
    from edgead.train.pretraining import find_pictures
    from edgead.train.settings import read_settings

    chosen = {"backbone": backbone, "model_size": model_size, "steps": steps, "seed": seed}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    config = read_settings(DistillConfig, {**chosen, **dict(map(_setting, setting or []))}, detector="distill")
    with stage_bars() as progress:
        facts = distill_teacher(
            find_pictures(images),
            output,
            config,
            device=choose_device(device),
            weights=weights,
            features=features,
            progress=progress,
        )
    report = {"teacher": str(output), **facts}
    _report(report, json, lambda: facts_table(str(output), report))


@app.command(name="eval")
def evaluate_command(
    model: Model,
    data: Annotated[Path, typer.Argument(help="Data set in MVTec layout.")],
    sheet: Annotated[Path | None, typer.Option(help="Where to write the contact sheet of the worst cases.")] = None,
    json: Json = False,
) -> None:
    """Measure a model on test images with known defects."""
    from edgead.detector import Detector
    from edgead.evaluate import evaluate, write_worst_cases

    images = find_test_images(data)
    with Detector.load(model) as detector, stage_bars() as progress:
        evaluation = evaluate(detector, images, progress=partial(progress, "judge images"))
        report = evaluation.to_dict()
        if sheet is not None:
            write_worst_cases(detector, evaluation, sheet)
            report["contact_sheet"] = str(sheet)
    _report(report, json, lambda: evaluation_table(report))


@app.command()
def predict(
    model: Model,
    images: Annotated[list[Path], typer.Argument(help="Images or folders of images.")],
    heat_maps: Annotated[Path | None, typer.Option(help="Folder for pictures with the heat map on them.")] = None,
    json: Json = False,
) -> None:
    """Judge images."""
    from edgead.detector import Detector
    from edgead.predict import predict_images, verdict_table

    paths = _images(images)
    with Detector.load(model) as detector, stage_bars() as progress:
        rows = predict_images(detector, paths, heat_maps, progress=partial(progress, "judge images"))
    _report({"model": str(model), "images": rows}, json, lambda: verdict_table(rows))


@app.command()
def export(
    model: Model,
    precision: Annotated[str, typer.Option(help="fp32.")] = "fp32",
    json: Json = False,
) -> None:
    """Write the ONNX graph of a model anew; its thresholds stay, and the golden scores must too."""
    if precision != "fp32":
        raise SettingsError(f"--precision {precision}: only fp32 is available")
    from edgead.export.rewrite import rewrite_graph

    with stderr.status("writing the graph and replaying the golden images"):
        artifact = rewrite_graph(model)
    report = {
        "model": str(model),
        "precision": precision,
        "onnx_mib": artifact.model_path.stat().st_size / 2**20,
    }
    _report(report, json, lambda: facts_table(str(model), report))


@app.command()
def verify(
    model: Model,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Images or folders; by default the golden images.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare the torch network with what is deployed; exit 1 when they differ by more than the tolerance."""
    from edgead.export.verify import compare_with_torch, replay_golden

    paths = _images(images) if images else []
    artifact = Artifact.load(model)
    with stage_bars() as progress:
        parity = compare_with_torch(artifact, paths, progress=partial(progress, "compare"))
    golden = replay_golden(artifact)
    report = {"torch_and_deployed": parity.to_dict(), "golden_and_deployed": golden.to_dict()}
    _report(report, json, lambda: parity_table(report))
    if not (parity.passed and golden.passed):
        raise typer.Exit(1)


@app.command()
def stream(
    model: Model,
    source: Annotated[str, typer.Argument(help="camera:0, rtsp://..., a video, a folder, synthetic: ...")],
    sink: Annotated[list[str] | None, typer.Option(help="jsonl:FILE, images:FOLDER, video:FILE, window:")] = None,
    late_after_ms: Annotated[float | None, typer.Option(min=0, help="Count frames older than this as late.")] = None,
    json: Json = False,
) -> None:
    """Run the camera loop until the source ends; exit 1 when the source failed."""
    from edgead.detector import Detector
    from edgead.stream import run

    if json and "jsonl:-" in (sink or []):
        raise SettingsError("--json and jsonl:- both write to standard output: give the sink a file")
    with Detector.load(model) as detector:
        summary = run(source, detector, sink or [], on_verdict=FrameCount(), late_after_ms=late_after_ms)
    report = summary.to_dict()
    _report(report, json, summary.table)
    if summary.fault:
        stderr.print(f"fault: {summary.fault}", style="bold red", soft_wrap=True)
        raise typer.Exit(1)


@app.command()
def profile(
    model: Model,
    images: Annotated[list[Path] | None, typer.Argument(help="Images to run; by default the golden images.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Frames to time.")] = 1000,
    warmup: Annotated[int, typer.Option(min=0, help="Frames before that.")] = 50,
    json: Json = False,
) -> None:
    """Measure the latency of every stage on this machine."""
    from edgead.detector import Detector
    from edgead.profile import profile as measure

    with Detector.load(model) as detector:
        golden = [detector.artifact.path / golden.image for golden in detector.manifest.golden]
        frames = [load_image(path) for path in (_images(images) if images else golden)]
        # No moving bar: drawing one would be measured too.
        stderr.print(f"measuring {n} frames after {warmup} to warm up")
        report = measure(detector, frames, warmup=warmup, n=n)
    _report(report.to_dict(), json, report.table)


@app.command()
def doctor(
    cameras: Annotated[bool, typer.Option(help="Open every camera and read a frame.")] = True,
    json: Json = False,
) -> None:
    """Tell what this machine has, by trying it; exit 1 when something that edgead needs does not work."""
    from edgead.doctor import examination_table, examine, is_fit

    findings = examine(probe_cameras=cameras)
    _report(findings, json, lambda: examination_table(findings))
    if not is_fit(findings):
        raise typer.Exit(1)


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Your own images in MVTec layout, instead of the built-in line.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for all that the demo writes.")] = Path(
        "out/demo"
    ),
    preset: Annotated[str, typer.Option(help="fast, default or fine.")] = "fine",
    json: Json = False,
) -> None:
    """Train, export, verify and stream, on the built-in production line or on your own images."""
    from edgead.demo.run import run_demo

    report = run_demo(output, data, preset=preset)
    _report(report.to_dict(), json, report.table)
    if not report.passed:
        raise typer.Exit(1)


def _report(report: dict[str, Any], as_json: bool, table: Any) -> None:
    if as_json:
        print_json(report)
    else:
        stdout.print(table())


def _images(paths: list[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += [path] if is_image_path(path) or path.is_file() else list_images(path)
    return found


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise SettingsError(f"--set {text!r}: expected NAME=VALUE, such as window=3 or layers=[stride8,stride16]")


def _numbers(option: str, text: str, counts: tuple[int, ...], *, repeat: int = 0) -> tuple[int, ...]:
    parts = text.replace("x", ",").split(",")
    if len(parts) not in counts or not all(part.strip().isdigit() for part in parts):
        raise SettingsError(f"{option} {text!r}: expected {' or '.join(map(str, counts))} whole numbers with commas")
    numbers = tuple(int(part) for part in parts)
    if min(numbers[-2:]) == 0:
        raise SettingsError(f"{option} {text!r}: height and width must be at least 1")
    return numbers * repeat if len(numbers) == 1 and repeat else numbers


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # unwinds, so that drafts are removed and cameras closed


def main() -> None:
    """Entry point of the command."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        app()
    except (EdgeadError, OSError) as error:
        stderr.print(f"error: {error}", style="red", soft_wrap=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgead"):
            raise
        message = f"error: {error.name} is missing; the workstation's packages: pip install 'edgead[train]'"
        stderr.print(message, style="red", soft_wrap=True)
        sys.exit(2)
