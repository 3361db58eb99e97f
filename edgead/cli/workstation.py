"""The verbs of the workstation: they make models and prove them, and import torch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from edgead.artifact import Artifact
from edgead.cli.app import (
    FalseRejectRate,
    Group,
    Json,
    Model,
    Region,
    ReviewRate,
    Seed,
    app,
    find_images,
    print_report,
    read_numbers,
)
from edgead.console import (
    export_facts,
    facts_table,
    pairs_table,
    parity_table,
    stage_bars,
    stderr,
    training_facts,
    tuned_table,
)
from edgead.dataset import find_test_images
from edgead.errors import SettingsError


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
    roi: Region = None,
    false_reject_rate: FalseRejectRate = None,
    review_rate: ReviewRate = None,
    folds: Annotated[
        int,
        typer.Option(min=0, help="Hold no image out; thresholds by cross-validation in so many folds (few images)."),
    ] = 0,
    group: Group = "auto",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
    device: Annotated[str, typer.Option(help="Where to train: auto, cpu or cuda.")] = "auto",
    seed: Seed = 0,
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
        "image_size": image_size and read_numbers("--image-size", image_size, (1, 2), repeat=2),
        "memory_bank_size": memory_bank_size,
        "seed": seed,
    }
    chosen = {key: value for key, value in chosen.items() if value is not None}
    settings = {**find_preset(detector, preset), **chosen, **dict(map(_setting, setting or []))}
    region = read_numbers("--roi", roi, (4,)) if roi else None
    good = GoodImages(data, normal_dir, region, false_reject_rate, review_rate, skip_bad, folds, group)
    with stage_bars() as progress:
        artifact, problems = train_from_folder(
            good, output, settings, detector=detector, weights=weights, device=device, progress=progress
        )
    report = {"model": str(output), "skipped": problems, **training_facts(artifact)}
    shown = {**report, "groups": report["groups"]["account"]}
    print_report(
        report,
        json,
        lambda: facts_table(f"{output}", {k: v for k, v in shown.items() if k != "skipped" or v}),
    )
    if "warning" in report["groups"]:
        stderr.print(f"warning: {report['groups']['warning']}", style="yellow", soft_wrap=True)


@app.command()
def tune(
    data: Annotated[Path, typer.Argument(help="MVTec layout; only train/good is read.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the winner.")],
    latency_ms: Annotated[float, typer.Option(help="Budget of a frame on this machine, 95th percentile.")],
    false_reject_rate: FalseRejectRate = None,
    runtime: Annotated[str, typer.Option(help="Engine that is timed: onnxruntime or openvino.")] = "onnxruntime",
    precisions: Annotated[str, typer.Option(help="Precisions of the finalists, such as fp32,int8.")] = "fp32",
    detectors: Annotated[str, typer.Option(help="Methods to choose from.")] = "patchcore,mvg",
    trials: Annotated[int, typer.Option(min=2, help="Candidates to start with.")] = 24,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster that trains instead, or auto.")] = None,
    group: Group = "auto",
    plot: Annotated[Path | None, typer.Option(help="Picture of the front; by default OUTPUT.svg.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Search for the best detector within a latency budget, and write it as a finished model."""
    from edgead.export.tune import TunePlan
    from edgead.export.tune import tune as search

    lists = [tuple(part.strip() for part in text.split(",")) for text in (precisions, detectors)]
    picture = plot or output.with_name(f"{output.name}.svg")
    if plot and not plot.parent.is_dir():
        raise SettingsError(f"--plot {plot}: there is no folder {plot.parent}")
    plan = TunePlan(latency_ms, false_reject_rate, runtime, *lists, trials, workers, ray, seed, group)
    with stage_bars() as progress:
        tuned = search(data, output, plan, progress=progress)
    picture.write_text(tuned.plot, encoding="utf-8")
    print_report(
        {"model": str(output), "plot": str(picture), **tuned.to_dict()}, json, lambda: tuned_table(tuned, latency_ms)
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
    seed: Seed = 0,
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
    print_report(report, json, lambda: facts_table(str(output), report))


@app.command()
def export(
    model: Model,
    data: Annotated[
        Path | None,
        typer.Argument(help="The images that the model was trained on; every precision but fp32 needs them."),
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8, or int8_symmetric (for TensorRT).")] = "fp32",
    normal_dir: Annotated[str | None, typer.Option(help="Folder of good images below DATA; . is DATA itself.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Which images belong together, as for train; by default as it was there.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="Largest mean relative difference of the scores from those of fp32.")
    ] = None,
    float_layers: Annotated[
        str | None,
        typer.Option(help="Layers that int8 keeps in float, with commas; none for none; by default a search."),
    ] = None,
    make_default: Annotated[
        bool, typer.Option("--make-default", help="Open this graph when no precision is asked for.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a graph: fp32 anew from the torch weights, or another precision beside it with thresholds of its own."""
    if precision == "fp32":
        from edgead.export.rewrite import rewrite_graph

        with stderr.status("writing the graph and replaying the golden images"):
            artifact = rewrite_graph(model)
    else:
        artifact = _add_precision(model, data, (normal_dir, group), (precision, tolerance, float_layers, make_default))
    report = export_facts(artifact, precision)
    print_report(report, json, lambda: facts_table(str(model), report))


def _add_precision(
    model: Path,
    data: Path | None,
    where: tuple[str | None, str | None],
    plan: tuple[str, float | None, str | None, bool],
) -> Artifact:
    from edgead.export.calibration_images import find_calibration_images
    from edgead.export.precision import PrecisionPlan, add_precision

    precision, tolerance, float_layers, make_default = plan
    normal_dir, group = where
    if data is None:
        raise SettingsError(
            f"{precision} gets thresholds of its own, from real images: name them, as in "
            f"`edgead export {model} DATA --precision {precision}`"
        )
    names = None if float_layers is None else [name for name in float_layers.split(",") if name not in ("none", "")]
    with stage_bars() as progress:
        images = find_calibration_images(Artifact.load(model), data, normal_dir, group=group, progress=progress)
        return add_precision(model, PrecisionPlan(precision, tolerance, names, make_default), images, progress=progress)


@app.command()
def verify(
    model: Model,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Images, folders, or a data set; by default the golden images.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every graph on every runtime that is installed.")] = False,
    json: Json = False,
) -> None:
    """Compare the torch network with what is deployed; exit 1 when they differ by more than the tolerance."""
    artifact = Artifact.load(model)
    passed = _verify_all(artifact, images or [], json) if everything else _verify_fp32(artifact, images or [], json)
    if not passed:
        raise typer.Exit(1)


def _verify_fp32(artifact: Artifact, images: list[Path], json: bool) -> bool:
    from edgead.export.verify import compare_with_torch, replay_golden

    paths = find_images(images)
    with stage_bars() as progress:
        parity = compare_with_torch(artifact, paths, progress=partial(progress, "compare"))
    golden = replay_golden(artifact)
    report = {"torch_and_deployed": parity.to_dict(), "golden_and_deployed": golden.to_dict()}
    print_report(report, json, lambda: parity_table(report))
    return parity.passed and golden.passed


def _verify_all(artifact: Artifact, images: list[Path], json: bool) -> bool:
    from edgead.export.matrix import all_pairs, verify_pairs

    labelled = len(images) == 1 and (images[0] / "test").is_dir()
    golden = [artifact.path / golden.image for golden in artifact.manifest.golden]
    shown = find_test_images(images[0]) if labelled else find_images(images) or golden
    with stage_bars() as progress:
        reports = verify_pairs(artifact, all_pairs(artifact), shown, progress=progress)
    rows = [report.to_dict() for report in reports]
    print_report({"model": str(artifact.path), "pairs": rows}, json, lambda: pairs_table(rows))
    return all(report.passed for report in reports)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise SettingsError(f"--set {text!r}: expected NAME=VALUE, such as window=3 or layers=[stride8,stride16]")
