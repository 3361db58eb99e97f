"""Verb `train`."""

from __future__ import annotations

import time
from dataclasses import replace
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
    print_report,
    read_numbers,
    read_setting,
)
from edgead.cli.choices import Detector, Device, DeviceName, InputName, TrainedPrecision
from edgead.cli.console import LOOK, stage_bars, stderr, training_facts, warn

if TYPE_CHECKING:
    from edgead.adapt.training.good_images import GoodImages
    from edgead.artifact.inputs import Colour

LogTo = Annotated[
    list[str] | None,
    typer.Option(
        help="Log settings, stages, losses and figures: a file for JSON lines; tensorboard:FOLDER or mlflow:URI of the "
        "package edgead-tracking. May be repeated.",
        rich_help_panel=RARE,
    ),
]


@app.command()
def train(
    data: TrainingData,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the model to write.")],
    detector: Detector = "patchcore",
    preset: Annotated[
        str, typer.Option(help="Settings of the method: default, auto, or one that `edgead presets` lists.")
    ] = "default",
    normal_dir: NormalDir = None,
    backbone: Annotated[
        str | None, typer.Option(help="Backbone, instead of the preset's.", rich_help_panel=RARE)
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers of the backbone, such as stride16,stride32.", rich_help_panel=RARE)
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(help="Size of the network's input in pixels: one number, or HEIGHT,WIDTH.", rich_help_panel=RARE),
    ] = None,
    memory_bank_size: Annotated[
        int | None, typer.Option(min=1, help="Number of patches in the memory bank.", rich_help_panel=RARE)
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any other setting of the method, as NAME=VALUE; may be repeated.", rich_help_panel=RARE
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="Weights of the backbone: safetensors or a state dict. For efficient_ad: a teacher; for detectors "
            "that take words: CLIP.",
            rich_help_panel=RARE,
        ),
    ] = None,
    roi: Region = None,
    false_reject_rate: FalseRejectRate = None,
    review_rate: ReviewRate = None,
    guarantee: Annotated[
        str | None,
        typer.Option(
            help="cross: all images are learnt; for the thresholds, each image is scored by what was learnt from the "
            "other images (default of patchcore). split: a fifth of the images is held out for the thresholds, and "
            "the rate has a proof (default of other methods).",
            rich_help_panel=RARE,
        ),
    ] = None,
    folds: Annotated[
        int,
        typer.Option(
            min=0,
            help="For detectors that train a network: train this many more times, to make the thresholds as cross "
            "does.",
            rich_help_panel=RARE,
        ),
    ] = 0,
    defects: Annotated[
        list[Path] | None,
        typer.Option(
            help="Images of known defects, or folders of them: never learnt, they show how many defects each limit "
            "finds."
        ),
    ] = None,
    hold_out: Annotated[
        float,
        typer.Option(
            help="For data without a test part: share of the good images, in whole groups, that is not learnt, so that "
            "`edgead eval MODEL DATA` measures on it.",
        ),
    ] = 0.0,
    group: Group = "auto",
    precision: Annotated[
        TrainedPrecision,
        typer.Option(
            help="Precision: auto is int8 where this CPU gains by it, and else fp32. patchcore learns in it; other "
            "detectors are converted, where that moves scores of good images by at most 1 % on average."
        ),
    ] = TrainedPrecision.auto,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
    ignore: Ignore = None,
    align: Align = None,
    tiles: Annotated[
        str | None,
        typer.Option(
            help="Cut large images into tiles of SIZE[,OVERLAP] pixels; auto: tiles at most twice the network's input "
            "size."
        ),
    ] = None,
    input: Annotated[
        InputName,
        typer.Option(
            help="What images are: rgb, 8-bit images; grey16, grey values of 16 bits or floats; relief, heights; "
            "rgb_relief, colours with heights."
        ),
    ] = InputName.rgb,
    mm_per_count: Annotated[
        float | None,
        typer.Option(help="With heights: millimetres of one count of the height map.", rich_help_panel=RARE),
    ] = None,
    mm_per_pixel: Annotated[
        float | None,
        typer.Option(
            help="Millimetres of one pixel of the images: verdicts say how large a defect is.", rich_help_panel=RARE
        ),
    ] = None,
    log_to: LogTo = None,
    device: Device = DeviceName.auto,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Learn from good images and write a finished, calibrated model.

    To continue a training that was stopped, give the same command again.
    """
    started = time.perf_counter()
    from edgead.adapt.methods.outline import read_outline
    from edgead.adapt.methods.registry import METHODS, check_names

    # Refuse wrong options before torch is loaded, which takes seconds.
    chosen = {
        "backbone": backbone,
        "layers": layers and [layer.strip() for layer in layers.split(",")],
        "image_size": image_size and read_numbers("--image-size", image_size, (1, 2), repeat=2),
        "memory_bank_size": memory_bank_size,
        "seed": seed,
    }
    chosen = {key: value for key, value in chosen.items() if value is not None} | dict(map(read_setting, setting or []))
    check_names(detector, None if preset == AUTO else preset, chosen)

    from edgead.adapt.training.good_images import GoodImages
    from edgead.artifact.folder import check_destination
    from edgead.artifact.manifest import MANIFEST

    region = cast("tuple[int, int, int, int]", read_numbers("--roi", roi, (4,))) if roi else None
    good = GoodImages(data, normal_dir, region, false_reject_rate, review_rate, skip_bad, folds, group)
    good = replace(good, tiles=tiles, ignore=tuple(ignore or ()), align=align, guarantee=guarantee)
    good = replace(good, input=cast("Colour", input.value), mm_per_count=mm_per_count)
    good = replace(good, mm_per_pixel=mm_per_pixel)
    good = replace(good, defects=find_images(defects or []), hold_out=hold_out)
    found = good.find()
    outline = read_outline(METHODS.places()[detector])
    if outline is not None and outline.leaves_out is not None:
        good.check_count(len(found), leaves_out=outline.leaves_out)
    check_destination(output)

    from edgead.cli.advice import advise, print_points, training_table

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
        )
        if not json:
            progress(LOOK, 0, 1)
            advice = advise(artifact, data, replaced)
    took = {"took_seconds": round(time.perf_counter() - started, 1)}
    report = {"model": str(output), "skipped": problems, **took, **training_facts(artifact)}
    if account and settings["image_size"] == of_preset["image_size"]:
        report["chosen"] = account
    single = [report.get("shrunk"), report["groups"].get("warning")]
    warn([*report.get("odd_images", ()), *filter(None, single)])
    print_report(report, json, lambda: training_table(report))
    if not json:
        print_points(artifact, good.defects)
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
