"""Verb `data`: shows the content of a data set, before a model is learnt from it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Group
from rich.table import Table

from edgead.cli.app import Json, app, print_report
from edgead.cli.console import edgead_command, next_steps, stage_bars

if TYPE_CHECKING:
    from edgead.dataset.survey import Survey


DataWork = Literal["show"]


@app.command()
def data(
    work: Annotated[DataWork, typer.Argument(help="show what is there.")],
    path: Annotated[
        Path, typer.Argument(help="Folder of a data set, or a file that lists its images: a table, a manifest, JSON.")
    ],
    json: Json = False,
) -> None:
    """Report the layout of a data set, its images by split and kind, masks and sizes; exit 1 if some cannot be used."""
    from edgead.dataset.survey import survey

    with stage_bars() as progress:
        found = survey(path, partial(progress, "read images"))
    report = found.to_dict()
    print_report(report, json, lambda: _table(report))
    steps = [] if json or found.problems else _next(found)
    if steps:
        print(*next_steps(*steps), sep="\n")
    if found.problems:
        raise typer.Exit(1)


def _next(found: Survey) -> list[tuple[str, str]]:
    path = found.found.path
    train = edgead_command("train", path, "-o", "model")
    if found.is_plain:
        screen = edgead_command("screen", path, "-o", "screened")
        return [(screen, "looks through a pile that nobody sorted"), (train, "learns all of them, if all are good")]
    if found.found.learnt():
        return [(train, "learns the good images")]
    return [(edgead_command("eval", "MODEL", path), "tests a model with these")] if found.found.tested() else []


def _tested(images: int) -> str:
    return f"eval and report test with {images}" if images else "eval and report find none to test with"


def _table(report: dict[str, Any]) -> Group:
    shown = Table(title=f"{report['path']}: {report['layout']}", title_justify="left")
    for column in ("split", "kind", "images", "masks", "groups"):
        shown.add_column(column, justify="left" if column in ("split", "kind") else "right")
    for row in report["splits"]:
        shown.add_row(*map(str, row.values()))
    sizes = ", ".join(f"{count} of {size}" for size, count in list(report["sizes"].items())[:5])
    lines = [
        f"sizes: {sizes}{', ...' if len(report['sizes']) > 5 else ''}",
        f"train learns {report['learnt']} images, {_tested(report['tested'])}",
        *(f"note: {note}" for note in report["notes"]),
        *(f"problem: {problem}" for problem in report["problems"][:5]),
        *(["..."] if len(report["problems"]) > 5 else []),
    ]
    return Group(shown, *lines)
