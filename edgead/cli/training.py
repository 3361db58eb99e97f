"""The verbs that learn on the workstation: `edgead train`, and `edgead distill`, which makes teachers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from edgead.cli.app import FalseRejectRate, Group, Json, ReviewRate, Seed, app, print_report, read_numbers
from edgead.cli.console import facts_table, stage_bars, stderr, training_facts
from edgead.cli.region import AUTO, RegionOrAuto, read_region
from edgead.dataset.folders import StageProgress, find_good_images
from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.training.from_folder import GoodImages


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="MVTec layout (train/good), or any folder with --normal-dir.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the model to write.")],
    detector: Annotated[str, typer.Option(help="Method.")] = "patchcore",
    preset: Annotated[
        str, typer.Option(help="Settings of the method: default, auto, or one that the README lists.")
    ] = "default",
    latency_ms: Annotated[
        float | None, typer.Option(help="With --preset auto: budget of a frame on this machine; by default 15.")
    ] = None,
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
    roi: RegionOrAuto = None,
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
    from edgead.training.from_folder import GoodImages, train_from_folder

    chosen = {
        "backbone": backbone,
        "layers": layers and [layer.strip() for layer in layers.split(",")],
        "image_size": image_size and read_numbers("--image-size", image_size, (1, 2), repeat=2),
        "memory_bank_size": memory_bank_size,
        "seed": seed,
    }
    chosen = {key: value for key, value in chosen.items() if value is not None}
    good = GoodImages(
        data, normal_dir, read_region(roi, data, normal_dir), false_reject_rate, review_rate, skip_bad, folds, group
    )
    with stage_bars() as progress:
        of_preset, account = _preset(good, detector, preset, latency_ms, progress)
        if roi == AUTO and good.roi is not None and detector == "patchcore":
            of_preset = {**of_preset, "quiet_background": True}
        settings = {**of_preset, **chosen, **dict(map(_setting, setting or []))}
        artifact, problems = train_from_folder(
            good, output, settings, detector=detector, weights=weights, device=device, progress=progress
        )
    report = {"model": str(output), "skipped": problems, **training_facts(artifact)}
    if account and settings["image_size"] == of_preset["image_size"]:
        report["chosen"] = account
    shown = {**report, "groups": report["groups"]["account"]}
    print_report(
        report,
        json,
        lambda: facts_table(f"{output}", {k: v for k, v in shown.items() if k != "skipped" or v}),
    )
    if "warning" in report["groups"]:
        stderr.print(f"warning: {report['groups']['warning']}", style="yellow", soft_wrap=True)


def _preset(
    good: GoodImages, detector: str, preset: str, latency_ms: float | None, progress: StageProgress
) -> tuple[dict[str, Any], str]:
    """Settings of a preset in the proportions of the images; of `auto`, for this machine; and why in words."""
    from edgead.methods import find_preset
    from edgead.methods.patchcore import PatchCoreConfig
    from edgead.training.proportions import find_proportions, keep_proportions
    from edgead.tune.auto import LATENCY_MS, choose_settings

    if preset == "auto":
        if detector != "patchcore":
            raise SettingsError(f"--preset auto is of patchcore; {detector} has presets of its own")
        paths = find_good_images(good.data, good.normal_dir)
        budget_ms = LATENCY_MS if latency_ms is None else latency_ms
        choice = choose_settings(paths, budget_ms, roi=good.roi, progress=progress)
        return choice.settings, choice.account
    if latency_ms is not None:
        raise SettingsError("--latency-ms belongs to --preset auto; `edgead tune` searches within a budget")
    settings = find_preset(detector, preset)
    if detector != "patchcore":
        return settings, ""
    size = PatchCoreConfig(**settings).image_size
    proportions = find_proportions(find_good_images(good.data, good.normal_dir), good.roi)
    fitted = keep_proportions({**settings, "image_size": list(size)}, proportions)
    height, width = fitted["image_size"]
    return fitted, f"{height} x {width} px ({proportions.reason})"


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
    from edgead.methods.device import choose_device
    from edgead.methods.distill import DistillConfig
    from edgead.methods.distill import distill as distill_teacher
    from edgead.methods.pretraining import find_photographs
    from edgead.methods.settings import read_settings

    chosen = {"backbone": backbone, "model_size": model_size, "steps": steps, "seed": seed}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    config = read_settings(DistillConfig, {**chosen, **dict(map(_setting, setting or []))}, detector="distill")
    with stage_bars() as progress:
        facts = distill_teacher(
            find_photographs(images),
            output,
            config,
            device=choose_device(device),
            weights=weights,
            features=features,
            progress=progress,
        )
    report = {"teacher": str(output), **facts}
    print_report(report, json, lambda: facts_table(str(output), report))


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise SettingsError(f"--set {text!r}: expected NAME=VALUE, such as window=3 or layers=[stride8,stride16]")
