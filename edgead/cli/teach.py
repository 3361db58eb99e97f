"""Verb `teach`: teaches a model more good parts, and parts that people marked on the line."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.cli.app import Group, Json, Model, StoreUrl, app, find_images, print_report
from edgead.cli.consent import confirm
from edgead.cli.console import edgead_command, facts_table, print_json, stage_bars, stderr, warn
from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.line.evidence.kept_frames import MarkedParts


Images = Annotated[
    list[Path] | None, typer.Argument(help="Good parts to learn, such as false rejects: images or folders.")
]
Bad = Annotated[
    list[Path] | None,
    typer.Option(
        help="Images of defective parts, a folder a kind: three or more become known defects. A lesson is refused "
        "if it passes a part that the model stops now."
    ),
]
MarkedOption = Annotated[
    Path | None, typer.Option(help="Folder of an evidence store: add the parts that people marked as good and bad.")
]
Since = Annotated[str | None, typer.Option(help="Period before now to use: 12h, 7d, 2w; by default all.")]
Pipeline = Annotated[str | None, typer.Option(help="With --marked: the pipeline whose marked parts are used.")]
Calibration = Annotated[
    list[Path] | None,
    typer.Option(help="Good images to make the thresholds from; by default the images that the model keeps."),
]
HeldOut = Annotated[float, typer.Option(help="Share of the images that is not learnt, to measure the gain.")]
Reason = Annotated[
    str,
    typer.Option(
        help="Reason why parts unlike all known good parts are good: they are learnt, and the model keeps the reason."
    ),
]
By = Annotated[
    str | None, typer.Option(help="Name of the person who teaches, for the record; by default the login name.")
]
Sheet = Annotated[
    Path | None, typer.Option(help="File for the sheet of images with heat maps; by default MODEL.lesson.jpg.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Directory of the taught model; by default it takes the place of MODEL."),
]
InForce = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="REVIEW REJECT", help="Raw limits that a person set on the line: parts are compared by them."),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Do not ask whether all are good parts; needed where there is no terminal."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be learnt, and learn nothing.")]
Undo = Annotated[bool, typer.Option("--undo", help="Restore the version before the last lesson.")]


@app.command()
def teach(
    model: Model,
    images: Images = None,
    bad: Bad = None,
    marked: MarkedOption = None,
    store_url: StoreUrl = None,
    since: Since = None,
    pipeline: Pipeline = None,
    calibration: Calibration = None,
    held_out: HeldOut = 0.2,
    group: Group = "auto",
    reason: Reason = "",
    by: By = None,
    sheet: Sheet = None,
    output: Output = None,
    in_force: InForce = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    undo: Undo = False,
    json: Json = False,
) -> None:
    """Add good parts to a model's memory bank, add known defects, and make its thresholds again."""
    from edgead.adapt import teach as teaching

    if undo:
        if images or calibration or bad or marked:
            raise SettingsError("--undo puts the last version back, it takes no images")
        _undo(model, json)
        return
    good, defective = find_images(images or [], below=False), find_images(bad or [])
    if marked is not None:
        found = _marked(model, marked, store_url, since, pipeline)
        good, defective = [*good, *found.good], [*defective, *found.bad]
    if not good and not defective:
        raise SettingsError("name good images to learn, defects with --bad, a store with --marked, or --undo")
    given = good, held_out, find_images(calibration or [], below=False), group
    shown = sheet or teaching.sheet_of(output or model)
    plan = teaching.TeachPlan(*given, reason, by or _login_name(), shown, defective, output, in_force)
    with _refusals_as(json), stage_bars() as progress:
        prepared = teaching.prepare(model, plan, progress=progress)
    if dry_run:
        print_report(prepared.to_dict(), json, prepared.table)
    else:
        stderr.print(prepared.table())
    stderr.print(f"With heat maps: {plan.sheet}", soft_wrap=True)
    warn(prepared.warnings)
    if dry_run:
        return
    confirm("Are all of these good parts?" if good else "Are all of these defective parts?", yes=yes)
    with _refusals_as(json), stage_bars() as progress:
        lesson = teaching.learn(prepared, progress=progress)
    print_report(lesson.to_dict(), json, lesson.table)
    if not json:
        back = "" if output else f" To take the lesson back: {edgead_command('teach', model, '--undo')}"
        print(f"The limits are made from {lesson.calibrated_on}.{back}")


def _marked(model: Path, store: Path, url: str | None, since: str | None, pipeline: str | None) -> MarkedParts:
    """Return the marked parts of a store, without good parts that the model has learnt already."""
    from edgead.artifact.folder import Artifact
    from edgead.artifact.training_hashes import find_learnt
    from edgead.line.evidence.kept_frames import marked_parts, read_span

    found = marked_parts(store, url, read_span(since) if since else None, pipeline)
    for note in found.notes():
        stderr.print(f"note: {note}", style="yellow", soft_wrap=True)
    learnt = set(find_learnt(Artifact.load(model), found.good))
    new = [path for path in found.good if path not in learnt]
    if not new and not found.bad:
        marks = f"{len(found.good)} good parts are marked" + f", and {model} has learnt them all" * bool(learnt)
        raise SettingsError(
            f"{store}: there is nothing to teach: {marks}. Mark parts on the page of the daemon, or go further back"
        )
    return replace(found, good=new)


@contextmanager
def _refusals_as(json: bool) -> Iterator[None]:
    """If JSON is requested and the lesson in the block is refused, print the refusal as a JSON report."""
    from edgead.adapt.teach import LessonRefusedError

    try:
        yield
    except LessonRefusedError as refused:
        if json:
            print_json(refused.to_dict())
        raise


def _undo(model: Path, json: bool) -> None:
    from edgead.adapt import teach as teaching
    from edgead.artifact.files import ArtifactError
    from edgead.artifact.manifest import ThresholdChange, read_manifest

    changes: list[ThresholdChange] = []
    with suppress(ArtifactError):  # the model that is undone may be damaged, or missing
        changes = read_manifest(model).threshold_changes
    artifact = teaching.undo(model)
    undone = [one for one in changes if one.verb == "calibrate" and one not in artifact.manifest.threshold_changes]
    if undone:
        stderr.print(
            "warning: the limits of before the lesson are back; those that `edgead calibrate` made since, on "
            f"{undone[-1].changed_at:%Y-%m-%d at %H:%M} UTC, are undone with it: calibrate again",
            style="yellow",
            soft_wrap=True,
        )
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
