"""Verb `commission`: makes a model on a device, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from edgead.cli.app import (
    Align,
    FalseRejectRate,
    Group,
    Ignore,
    Json,
    Region,
    ReviewRate,
    app,
    print_report,
    read_numbers,
)
from edgead.cli.console import LOOK, stage_bars, training_facts, warn


@app.command()
def commission(
    source: Annotated[
        str, typer.Argument(help="Source of good parts only: camera:0, rtsp://..., a video or a folder.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the model to write.")],
    images: Annotated[int, typer.Option(min=1, help="Number of different good parts to capture.")] = 100,
    preset: Annotated[
        str | None,
        typer.Option(help="Preset of patchcore; by default `default`, or `fast` where a frame would take too long."),
    ] = None,
    roi: Region = None,
    ignore: Ignore = None,
    align: Align = None,
    false_reject_rate: FalseRejectRate = None,
    review_rate: ReviewRate = None,
    keep_images: Annotated[Path | None, typer.Option(help="Folder to keep the images of the good parts in.")] = None,
    patience_s: Annotated[float, typer.Option(min=0, help="Seconds to wait for the next new part.")] = 60,
    group: Group = "none",
    json: Json = False,
) -> None:
    """Make a calibrated model on the device, from good parts in front of its camera."""
    from edgead.adapt.commission.run import DETECTOR, CommissionPlan
    from edgead.adapt.commission.run import commission as learn_from
    from edgead.adapt.methods.method import AUTO
    from edgead.adapt.training.from_folder import planned_stages
    from edgead.artifact.manifest import MANIFEST
    from edgead.cli.advice import advise, print_points, training_table

    region = cast("tuple[int, int, int, int]", read_numbers("--roi", roi, (4,))) if roi else None
    plan = CommissionPlan(
        images, preset, region, false_reject_rate, review_rate, keep_images, patience_s, group, ignore or (), align
    )
    replaced = (output / MANIFEST).is_file()
    advice: list[str] = []
    with stage_bars(["collect good parts", *planned_stages(DETECTOR, AUTO), *[LOOK] * (not json)]) as progress:
        done = learn_from(source, output, plan, progress=progress)
        if not json:
            progress(LOOK, 0, 1)
            advice = advise(done.artifact, None, replaced)
    report = {"model": str(output), **training_facts(done.artifact), "warnings": done.warnings}
    print_report(report, json, lambda: training_table(report))
    warn(done.warnings)
    if not json:
        print_points(done.artifact, ())
        print(*advice, sep="\n")
