"""Verbs `sort` and `name`: sort rejects into kinds, and name the kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edgead.cli.app import Group, Json, Model, Seed, StoreUrl, app, find_images, print_report, read_setting
from edgead.cli.choices import PluginSettings, SortMethod
from edgead.cli.console import edgead_command, stage_bars, stderr, warn
from edgead.errors import SettingsError


@app.command()
def sort(
    model: Model,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Images, or folders of images; the rejects among them are sorted.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write, with a subfolder for each kind.")
    ] = Path("kinds"),
    kinds: Annotated[
        str, typer.Option(help="Number of kinds, or auto: as many kinds as are found again in other rejects.")
    ] = "auto",
    everything: Annotated[bool, typer.Option("--all", help="Sort images that are judged ok too.")] = False,
    store: Annotated[
        Path | None, typer.Option(help="Folder of an evidence store, whose rejects and reviews are sorted.")
    ] = None,
    store_url: StoreUrl = None,
    since: Annotated[str | None, typer.Option(help="Period before now to sort: 12h, 7d, 2w; by default 7d.")] = None,
    link: Annotated[bool, typer.Option("--link", help="Write links to the images instead of copies.")] = False,
    method: SortMethod = "residuals",
    setting: PluginSettings = None,
    group: Group = "auto",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Sort rejects into kinds that nobody has named yet."""
    from edgead.detector import Detector
    from edgead.unlabelled.sorting.folders import SHEET, check_folder, write_sorted
    from edgead.unlabelled.sorting.sort import SortPlan, sort_images

    plan = SortPlan(_read_count(kinds), everything, group, seed, method, dict(map(read_setting, setting or [])))
    check_folder(output)
    paths = [*find_images(images or []), *_from_store(store, store_url, since)]
    if not paths:
        raise SettingsError("name images, folders of them, or an evidence store with --store")
    with Detector.load(model) as detector, stage_bars() as progress:
        found = sort_images(detector, paths, plan, announce=_announce, progress=progress)
        write_sorted(detector, found, output, link=link)
    print_report({**found.to_dict(), "folder": str(output)}, json, lambda: _pareto_table(found.to_dict()))
    for note in found.clusters.notes:
        stderr.print(f"note: {note}", style="yellow", soft_wrap=True)
    for one in found.problems:
        stderr.print(f"{one.path}: {one.text}", style="red", soft_wrap=True)
    if not json:
        print(f"Look at {output / SHEET}, move images that are in the wrong folder, then name the kinds:")
        print(edgead_command("name", model, "--examples", output, f"{found.pareto()[0]['folder']}=NAME"))
    raise typer.Exit(1 if found.problems else 0)


@app.command()
def name(
    model: Model,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KIND=NAME]...", help="Names of kinds; kinds with equal names become one kind."),
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(help="Folder with a folder of rejects for each kind, as `edgead sort` writes it.")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Forget the kinds that the model knows; otherwise the examples are added to them."
        ),
    ] = False,
    unknown: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.99, help="Share of rejects of known kinds that may be called unknown; 0.05 until it is set."
        ),
    ] = None,
    group: Group = "auto",
    json: Json = False,
) -> None:
    """Name kinds of rejects; from then on, the model's verdicts name the kind."""
    from edgead.unlabelled.sorting.name_kinds import NamePlan, name_kinds, read_names

    if not names and examples is None and unknown is None:
        raise SettingsError("name kinds, such as kind-01=scratch, or a folder of examples with --examples")
    if replace and examples is None:
        raise SettingsError("--replace forgets the kinds that the model knows: name others with --examples")
    plan = NamePlan(read_names(names or []), examples, replace, group, unknown)
    with stage_bars() as progress:
        named = name_kinds(model, plan, progress=progress)
    print_report(named.to_dict(), json, lambda: _kinds_table(named.to_dict()))
    warn(named.warnings())
    for one in named.problems:
        stderr.print(f"{one.path}: {one.text}", style="red", soft_wrap=True)
    raise typer.Exit(1 if named.problems else 0)


def _announce(text: str) -> None:
    stderr.print(f"{text}; stop it with Ctrl-C, nothing is written until the end", soft_wrap=True)


def _read_count(kinds: str) -> int | None:
    if kinds == "auto":
        return None
    if not kinds.isdecimal() or not int(kinds):
        raise SettingsError(f"--kinds {kinds!r}: a number of kinds, or auto")
    return int(kinds)


def _from_store(store: Path | None, url: str | None, since: str | None) -> list[Path]:
    if store is None:
        if url is not None or since is not None:
            option = "--since" if url is None else "--store-url"
            raise SettingsError(f"{option} needs --store: the folder of the images")
        return []
    from edgead.line.evidence.kept_frames import kept_rejects, read_span

    return kept_rejects(store, url, read_span("7d" if since is None else since))


def _pareto_table(report: dict[str, Any]) -> Table:
    table = Table(title=f"{report['sorted']} images sorted, {report['ok']} ok", title_justify="left")
    for column in ("kind", "images", "parts", "share", "together", "stability"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for row in report["kinds"]:
        shares = (f"{100 * row[share]:.0f} %" for share in ("share", "cumulative"))
        stability = "" if row["clear"] is None else f"{row['stability']:.2f}, {'clear' if row['clear'] else 'doubtful'}"
        table.add_row(row["kind"], str(row["images"]), str(row["parts"]), *shares, stability)
    table.caption, table.caption_justify = report["parts"], "left"
    return table


def _kinds_table(report: dict[str, Any]) -> Table:
    table = Table(title=report["model"], title_justify="left")
    for column in ("number", "kind", "examples", "parts"):
        table.add_column(column)
    for row in report["kinds"]:
        table.add_row(*(str(row[column]) for column in ("number", "kind", "examples", "parts")))
    return table
