"""Verb `screen`: ranks unlabelled parts by how unusual they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from edgead.cli.app import Group, Json, Region, app, find_images, read_numbers
from edgead.cli.choices import ScreenMethod
from edgead.cli.console import edgead_command, next_steps, print_json, stage_bars, stderr, stdout, warn
from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.unlabelled.screening.screeners import ScreenPlan

_SHOWN = 10


@app.command()
def screen(
    images: Annotated[
        list[Path], typer.Argument(help="Images of parts, or folders of images; good and defective parts may be mixed.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder to write: a contact sheet, a table, and a text on the limits of the ranking."
        ),
    ],
    method: ScreenMethod = "mutual",
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Preset of patchcore whose backbone is used; by default fast. For the method musc of "
            "edgead-foundation: a file of CLIP's weights."
        ),
    ] = None,
    interval: Annotated[
        float, typer.Option(help="A patch counts as normal if this share of the other parts has a similar patch.")
    ] = 0.3,
    zoom: Annotated[
        int | None,
        typer.Option(help="Size of the images, as a multiple of the backbone's input size; by default 2."),
    ] = None,
    alike: Annotated[
        bool,
        typer.Option("--alike", help="Move the score of each image towards the scores of the most similar images."),
    ] = False,
    neighbours: Annotated[
        str | None,
        typer.Option(
            help="Numbers of most similar images to average over, the image itself included; implies --alike; by "
            "default 1,2,3."
        ),
    ] = None,
    roi: Region = None,
    group: Group = "auto",
    json: Json = False,
) -> None:
    """Rank a pile of unlabelled parts by how much each part differs from most other parts."""
    from edgead.unlabelled.screening.mutual import ALIKE, MutualRule
    from edgead.unlabelled.screening.screeners import ScreenPlan

    region = read_numbers("--roi", roi, (4,)) if roi else None
    counts = ALIKE if neighbours is None else _read_counts(neighbours)
    rule = MutualRule(interval, alike=counts if alike or neighbours else ())
    plan = ScreenPlan(backbone, rule, zoom, region, group, method)
    report = _rank(find_images(images), plan, output, json)
    if json:
        print_json(report)
    raise typer.Exit(1 if report["problems"] else 0)


def _read_counts(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise SettingsError(f"--neighbours {text!r}: whole numbers with commas, such as 1,8,9")
    return tuple(map(int, parts))


def _rank(paths: list[Path], plan: ScreenPlan, output: Path, json: bool) -> dict[str, Any]:
    from edgead.unlabelled.screening.folder import LIMITS, SHEET, write_screened
    from edgead.unlabelled.screening.run import screen
    from edgead.unlabelled.sorting.folders import check_folder

    check_folder(output)
    with stage_bars() as progress:
        found = screen(paths, plan, progress=progress)
        write_screened(found, output)
    report = {**found.to_dict(), "folder": str(output)}
    if not json:
        stdout.print(_ranking(report), crop=False)
        print(f"Look at {output / SHEET}; {output / LIMITS} says what a ranking cannot know.")
        learn = edgead_command("train", "GOOD_IMAGES", "-o", "model")
        print(*next_steps((learn, "learns those that are good")), sep="\n")
    warn(found.warnings())
    for problem in found.problems:
        stderr.print(problem, style="red", soft_wrap=True)
    return report


def _ranking(report: dict[str, Any]) -> Table:
    table = Table(title=f"{report['screened']} images, the most suspicious first", title_justify="left")
    for column in ("rank", "score", "image"):
        table.add_column(column, justify="left" if column == "image" else "right", overflow="fold")
    for rank, row in enumerate(report["ranking"][:_SHOWN], 1):
        table.add_row(str(rank), f"{row['score']:.4g}", row["image"])
    table.caption, table.caption_justify = report["parts"], "left"
    return table
