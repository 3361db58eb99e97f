"""The verbs by which a device learns, without torch."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgead.cli.advice import edgead_command
from edgead.cli.app import (
    Align,
    FalseRejectRate,
    Group,
    Ignore,
    Json,
    Model,
    Region,
    ReviewRate,
    app,
    find_images,
    print_report,
    read_numbers,
)
from edgead.cli.console import facts_table, stage_bars, stderr, training_facts
from edgead.errors import SettingsError


@app.command()
def commission(
    source: Annotated[str, typer.Argument(help="camera:0, rtsp://..., a video, a folder: good parts only.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the model to write.")],
    images: Annotated[int, typer.Option(min=1, help="Different good parts to photograph.")] = 100,
    backbone: Annotated[
        str, typer.Option(help="fast, or the directory of a patchcore model to take it from.")
    ] = "fast",
    roi: Region = None,
    ignore: Ignore = None,
    align: Align = None,
    false_reject_rate: FalseRejectRate = None,
    review_rate: ReviewRate = None,
    keep_images: Annotated[Path | None, typer.Option(help="Folder where the images of the good parts stay.")] = None,
    patience_s: Annotated[float, typer.Option(min=0, help="Seconds to wait for a part that is not there yet.")] = 60,
    group: Group = "none",
    json: Json = False,
) -> None:
    """Make a calibrated model on the device, from good parts in front of its camera."""
    from edgead.learning import commission as commissioning

    region = read_numbers("--roi", roi, (4,)) if roi else None
    plan = commissioning.CommissionPlan(
        images, backbone, region, false_reject_rate, review_rate, keep_images, patience_s, group, ignore or (), align
    )
    with stage_bars() as progress:
        done = commissioning.commission(source, output, plan, progress=progress)
    report = {"model": str(output), **training_facts(done.artifact), "warnings": done.warnings}
    shown = {key: value for key, value in report.items() if key not in ("commissioned", "warnings")}
    shown["groups"] = report["groups"]["account"]
    print_report(report, json, lambda: facts_table(f"{output}", shown))
    for warning in done.warnings:
        stderr.print(f"warning: {warning}", style="yellow", soft_wrap=True)


@app.command()
def teach(
    model: Model,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Good parts to learn, such as false rejects: images or folders.")
    ] = None,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(help="Good images that thresholds are made from; by default those that the model keeps."),
    ] = None,
    held_out: Annotated[
        float, typer.Option(help="Share of the images that is not learnt and shows what was gained.")
    ] = 0.2,
    group: Group = "auto",
    force: Annotated[bool, typer.Option("--force", help="Teach also what stands far from anything good.")] = False,
    by: Annotated[str | None, typer.Option(help="Who teaches, for the record; by default the login name.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Where the images with heat maps go; by default MODEL.lesson.jpg.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; nobody is asked without a terminal.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be learnt, and learn nothing.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Put the version before the last lesson back.")] = False,
    json: Json = False,
) -> None:
    """Add good parts to a model's memory bank, and make its thresholds again."""
    from edgead.learning import teach as teaching

    if undo:
        if images or calibration:
            raise SettingsError("--undo puts the last version back, it takes no images")
        _undo(model, json)
        return
    if not images:
        raise SettingsError("name good images to learn, or --undo")
    given = find_images(images), held_out, find_images(calibration or []), group
    plan = teaching.TeachPlan(*given, force, by or _login_name(), sheet or teaching.sheet_of(model))
    with stage_bars() as progress:
        prepared = teaching.prepare(model, plan, progress=progress)
    if dry_run:
        print_report(prepared.to_dict(), json, prepared.table)
    else:
        stderr.print(prepared.table())
    stderr.print(f"With heat maps: {plan.sheet}", soft_wrap=True)
    if dry_run:
        return
    if not yes and sys.stdin.isatty():
        typer.confirm("Are all of these good parts?", abort=True, err=True)
    with stage_bars() as progress:
        lesson = teaching.learn(prepared, progress=progress)
    print_report(lesson.to_dict(), json, lesson.table)
    if not json:
        print(f"Thresholds are made from {lesson.calibrated_on}. {edgead_command('teach', model, '--undo')}")


def _undo(model: Path, json: bool) -> None:
    from edgead.learning import teach as teaching

    artifact = teaching.undo(model)
    facts = {
        "model": str(model),
        "sha256": artifact.manifest.manifest_sha256,
        "earlier versions left": len(teaching.earlier_versions(model)),
    }
    print_report(facts, json, lambda: facts_table(f"{model}", facts))


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry, as in a container
        return f"user {os.getuid()}"
