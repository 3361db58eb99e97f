"""Verb `train`."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgead.adapt.training import AUTO
from edgead.cli.app import (
    RARE,
    Align,
    FalseRejectRate,
    Group,
    Ignore,
    Json,
    NormalDir,
    Region,
    ReviewRate,
    Seed,
    TrainingData,
    app,
    find_images,
    of_training,
    print_report,
    read_numbers,
    read_setting,
)
from edgead.cli.choices import Detector, Device, InputName, TrainedPrecision
from edgead.cli.console import LOOK, stage_bars, stderr, training_facts, warn

if TYPE_CHECKING:
    from edgead.adapt.training.good_images import GoodImages
    from edgead.adapt.two_products import TwoProducts
    from edgead.artifact.folder import Artifact

LogTo = Annotated[
    list[str] | None,
    typer.Option(
        help="Log settings, stages, losses and figures: a file for JSON lines; tensorboard:FOLDER or mlflow:URI of the "
        "package edgead-tracking. May be repeated.",
        rich_help_panel=RARE,
    ),
]


Output = Annotated[Path, typer.Option("--output", "-o", help="Directory of the model to write.")]
Preset = Annotated[str, typer.Option(help="Settings of the method: default, auto, or one that `edgead presets` lists.")]
Backbone = Annotated[str | None, of_training("backbone", rich_help_panel=RARE)]
Layers = Annotated[str | None, of_training("layers", rich_help_panel=RARE)]
ImageSize = Annotated[str | None, of_training("image_size", metavar="HEIGHT[,WIDTH]", rich_help_panel=RARE)]
MemoryBankSize = Annotated[int | None, of_training("memory_bank_size", min=1, rich_help_panel=RARE)]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Any other setting of the method, as NAME=VALUE; may be repeated.", rich_help_panel=RARE
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        help="Weights of the backbone: safetensors or a state dict. For efficient_ad: a teacher; for detectors "
        "that take words: CLIP.",
        rich_help_panel=RARE,
    ),
]
Guarantee = Annotated[str | None, of_training("guarantee", rich_help_panel=RARE)]
Folds = Annotated[int, of_training("folds", min=0, rich_help_panel=RARE)]
Defects = Annotated[list[Path] | None, of_training("defects")]
HoldOut = Annotated[float, of_training("hold_out")]
Precision = Annotated[
    TrainedPrecision,
    typer.Option(
        help="Precision: auto is int8 where this CPU gains by it, and else fp32. patchcore learns in it; other "
        "detectors are converted, where that moves scores of good images by at most 1 % on average."
    ),
]
SkipBad = Annotated[bool, of_training("skip_bad", "--skip-bad")]
Tiles = Annotated[str | None, of_training("tiles")]
Input = Annotated[InputName, of_training("input")]
MmPerCount = Annotated[float | None, of_training("mm_per_count", rich_help_panel=RARE)]
MmPerPixel = Annotated[float | None, of_training("mm_per_pixel", rich_help_panel=RARE)]


@app.command()
def train(
    data: TrainingData,
    output: Output,
    detector: Detector = "patchcore",
    preset: Preset = "default",
    normal_dir: NormalDir = None,
    backbone: Backbone = None,
    layers: Layers = None,
    image_size: ImageSize = None,
    memory_bank_size: MemoryBankSize = None,
    setting: Setting = None,
    weights: Weights = None,
    roi: Region = None,
    false_reject_rate: FalseRejectRate = None,
    review_rate: ReviewRate = None,
    guarantee: Guarantee = None,
    folds: Folds = 0,
    defects: Defects = None,
    hold_out: HoldOut = 0.0,
    group: Group = "auto",
    precision: Precision = "auto",
    skip_bad: SkipBad = False,
    ignore: Ignore = None,
    align: Align = None,
    tiles: Tiles = None,
    input: Input = "rgb",
    mm_per_count: MmPerCount = None,
    mm_per_pixel: MmPerPixel = None,
    log_to: LogTo = None,
    device: Device = "auto",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Learn from good images and write a finished, calibrated model.

    To continue a training that was stopped, give the same command again.
    """
    started = time.perf_counter()
    of_network = {
        "backbone": backbone,
        "layers": layers,
        "image_size": image_size,
        "memory_bank_size": memory_bank_size,
    }
    chosen = _read_settings({**of_network, "seed": seed}, setting or [])
    from edgead.adapt.methods.registry import check_names

    check_names(detector, None if preset == AUTO else preset, chosen)  # before what takes time is loaded
    from edgead.adapt.training.good_images import GoodImages
    from edgead.artifact.manifest import MANIFEST

    region = cast("tuple[int, int, int, int]", read_numbers("--roi", roi, (4,))) if roi else None
    good = GoodImages(data, normal_dir, region, false_reject_rate, review_rate, skip_bad, folds, group)
    good = replace(good, tiles=tiles, ignore=tuple(ignore or ()), align=align, guarantee=guarantee)
    good = replace(good, input=input, mm_per_count=mm_per_count, mm_per_pixel=mm_per_pixel)
    good = replace(good, defects=find_images(defects or []), hold_out=hold_out)
    _refuse_early(good, output, detector)
    from edgead.cli.advice import advise

    with stage_bars(["load the program"]):  # torch takes seconds
        from edgead.adapt.training.from_folder import planned_stages, train_from_folder
        from edgead.adapt.training.log import training_log
        from edgead.adapt.training.preset import check_settings, preset_settings

    check_settings(detector, preset, chosen)
    replaced = (output / MANIFEST).is_file()
    advice: list[str] = []
    planned = [*planned_stages(detector, precision), *[LOOK] * (not json)]
    with stage_bars(planned) as bars, training_log(log_to or (), bars) as progress:
        of_preset, account = preset_settings(good, detector, preset, chosen)
        settings = {**of_preset, **chosen}
        _report_cost(good, detector, settings)
        artifact, problems = train_from_folder(
            good,
            output,
            settings,
            detector=detector,
            weights=weights,
            device=device,
            precision=precision,
            progress=progress,
            found_two=partial(_warn_of_two, output),
        )
        if not json:
            progress(LOOK, 0, 1)
            advice = advise(artifact, data, replaced)
    facts = {"skipped": problems, "took_seconds": round(time.perf_counter() - started, 1)}
    if account and settings["image_size"] == of_preset["image_size"]:
        facts["chosen"] = account
    _print_trained(artifact, good, facts, advice, json)


def _read_settings(given: dict[str, Any], others: list[str]) -> dict[str, Any]:
    """Parse settings of the method: those that have options, without None, and NAME=VALUE."""
    if given["layers"]:
        given["layers"] = [layer.strip() for layer in given["layers"].split(",")]
    if given["image_size"]:
        given["image_size"] = read_numbers("--image-size", given["image_size"], (1, 2), repeat=2)
    return {key: value for key, value in given.items() if value is not None} | dict(map(read_setting, others))


def _refuse_early(good: GoodImages, output: Path, detector: str) -> None:
    """Refuse too few images, and a place where no model can be, before torch is loaded, which takes seconds."""
    from edgead.adapt.methods.outline import read_outline
    from edgead.adapt.methods.registry import METHODS
    from edgead.artifact.folder import check_destination

    found, outline = good.find(), read_outline(METHODS.places()[detector])
    if outline is not None and outline.leaves_out is not None:
        good.check_count(found, leaves_out=outline.leaves_out)
    check_destination(output)


def _warn_of_two(output: Path, two: TwoProducts) -> None:
    """Warn of two products before they are learnt."""
    warn([f"{two.write_beside(output)}; Ctrl+C ends this training"])


def _print_trained(artifact: Artifact, good: GoodImages, facts: dict[str, Any], advice: list[str], json: bool) -> None:
    """Print the report, what other limits would do, warnings, which are seen last, and advice."""
    from edgead.cli.advice import print_points, training_table

    report = {"model": str(artifact.path), **facts, **training_facts(artifact)}
    print_report(report, json, lambda: training_table(report))
    if not json:
        print_points(artifact, good.defects)
    single = [report.get("two_products"), report.get("shrunk"), report["groups"].get("warning")]
    warn([*filter(None, single), *report.get("odd_images", ())])
    if advice:
        print(*advice, sep="\n")


def _report_cost(good: GoodImages, detector: str, settings: dict[str, Any]) -> None:
    """Print how long a frame will take, if images are cut into tiles or the backbone is not one of edgead's own."""
    from edgead.adapt.frozen_backbone import BACKBONES
    from edgead.adapt.training.frame_time import network_ms, tiles_account

    if account := tiles_account(good, detector, settings):
        stderr.print(account, soft_wrap=True)
    elif settings.get("backbone") not in (None, *BACKBONES):
        took_ms = network_ms(detector, settings) * (2 if good.input == "rgb_relief" else 1)  # of colours, of relief
        stderr.print(
            f"{settings['backbone']}: about {took_ms:.0f} ms a frame on one core of this machine", soft_wrap=True
        )
