"""Verb `evidence`: verdicts, images and production figures from an evidence store."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from rich.table import Table

from edgead.cli.app import Json, StoreUrl, app, print_report
from edgead.cli.console import stage_bars, stderr, warn
from edgead.errors import SettingsError
from edgead.line.evidence.production.formats import Annotations, Format
from edgead.line.evidence.production.periods import By
from edgead.types import DetectorDecision

if TYPE_CHECKING:
    from edgead.line.evidence.access import Access
    from edgead.line.evidence.production.counts import Unit
    from edgead.line.evidence.production.export import VerdictQuery
    from edgead.line.evidence.production.report import Printed


ExportFormat = Literal[Format, Annotations]
_ANNOTATED = get_args(Annotations)


EvidenceWork = Literal["export", "report"]


@app.command()
def evidence(
    work: Annotated[EvidenceWork, typer.Argument(help="export verdicts and images, or report counts and yield.")],
    store: Annotated[Path, typer.Argument(help="Folder of an evidence store; a daemon may be writing it.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="For export: a new folder, or a .zip file. For report: an .html page, or a file for the table.",
        ),
    ] = None,
    since: Annotated[
        str,
        typer.Option(
            help="Start of the period: 12h, 7d or 2w before now, or a date and time such as 2026-11-18T06:00."
        ),
    ] = "7d",
    until: Annotated[str | None, typer.Option(help="End of the period, written as --since; by default now.")] = None,
    pipeline: Annotated[
        str | None, typer.Option(help="Only verdicts of this pipeline, or of this part of several views.")
    ] = None,
    decision: Annotated[
        DetectorDecision | None, typer.Option(help="For export: only verdicts with this decision.")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="For export: only parts of this batch.")] = None,
    recipe: Annotated[str | None, typer.Option(help="For export: only parts of this recipe.")] = None,
    marked: Annotated[bool, typer.Option("--marked", help="For export: only parts that a person marked.")] = False,
    table: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="Format of the table; parquet needs the extra parquet. For export also coco and yolo: images and "
            "their defects as annotations.",
        ),
    ] = "csv",
    images: Annotated[bool, typer.Option("--images", help="For export: add the images that the store keeps.")] = False,
    by: Annotated[By, typer.Option(help="For report: grouping of the counts.")] = "shift",
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="For report: the site file that defines the shifts; by default one shift a day."
        ),
    ] = None,
    store_url: StoreUrl = None,
    json: Json = False,
) -> None:
    """Export verdicts with their images from an evidence store, or report its counts and yield."""
    from edgead.line.evidence.production.export import VerdictQuery
    from edgead.line.evidence.records import opened_store

    with opened_store(store, store_url) as access:
        begin, end = _time(since, until, access.now())
        if work == "report":
            _refuse(work, decision=decision, batch=batch, recipe=recipe, marked=marked, images=images)
            if table == "coco" or table == "yolo":
                raise SettingsError(f"--format {table} goes with `edgead evidence export`: a report has no images")
            found = _report(access, (begin, end), by, pipeline, config)
            _write_report(found, output, table)
            print_report(_as_json(found), json, lambda: _table(found))
            return
        if output is None:
            raise SettingsError("--output is missing: a new folder, or a file such as -o verdicts.zip")
        wanted = VerdictQuery(begin, end, pipeline, decision, batch, recipe, marked)
        report = _save(access, wanted, store if images or table in _ANNOTATED else None, table, output)
        if table in _ANNOTATED and not marked:
            warn(["labels are the model's opinion where nobody marked a part; --marked exports marked parts alone"])
    print_report(report, json, lambda: _sentence(report))


def _time(since: str, until: str | None, now: datetime) -> tuple[datetime, datetime]:
    begin, end = _instant("--since", since, now), now if until is None else _instant("--until", until, now)
    if begin >= end:
        raise SettingsError(f"--since {since} is not before {until or 'now'}")
    return begin, end


def _instant(option: str, text: str, now: datetime) -> datetime:
    """Parse a span of time before now, or a date and time, which is local unless it names a time zone."""
    from edgead.line.evidence.kept_frames import read_span

    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        pass
    try:
        return now - read_span(text)
    except (SettingsError, OverflowError):
        raise SettingsError(f"{option} {text!r}: write 12h, 7d or 2w, or a date and time as 2026-11-18T06:00") from None


def _refuse(work: EvidenceWork, **given: Any) -> None:
    for name, value in given.items():
        if value:
            raise SettingsError(f"--{name} does not go with `edgead evidence {work}`")


def _save(access: Access, query: VerdictQuery, store: Path | None, table: ExportFormat, output: Path) -> dict[str, Any]:
    from edgead.files.atomic import new_folder
    from edgead.line.evidence.folder import ImageFolder
    from edgead.line.evidence.production.annotations import write_annotated
    from edgead.line.evidence.production.export import Export, export_to_zip, write_export, write_into

    folder = None if store is None else ImageFolder(store / "pictures")
    as_zip = output.suffix.lower() == ".zip"
    if table in _ANNOTATED and as_zip:
        raise SettingsError(f"--output {output}: --format {table} writes a folder: name a new one")
    write = write_export
    if table == "coco" or table == "yolo":
        write, table = partial(write_annotated, kind=table), "csv"
    export = Export(access, query, table, folder)
    if not (verdicts := export.count()):
        raise SettingsError("there are no such verdicts: choose a longer time with --since, or fewer conditions")
    report: dict[str, Any] = {"verdicts": verdicts}
    with stage_bars() as progress:
        if as_zip:
            report["with_images"] = export_to_zip(export, output, progress)
        else:
            with new_folder(output) as draft:
                report["with_images"] = write(export, write_into(draft), progress)
    return {**report, "output": str(output)}


def _sentence(report: dict[str, Any]) -> str:
    return f"{report['verdicts']} verdicts, {report['with_images']} with images: {report['output']}"


def _report(access: Access, time: tuple[datetime, datetime], by: By, only: str | None, config: Path | None) -> Printed:
    from edgead.line.evidence.kinds import KindStore
    from edgead.line.evidence.production.counts import QueryBudget, pipelines_of, span, units_of
    from edgead.line.evidence.production.periods import Period, within
    from edgead.line.evidence.production.production import Orders
    from edgead.line.evidence.production.report import Printed, ReportQuery, report
    from edgead.line.site.load import load_site
    from edgead.line.site.shifts import days_between, shifts_between

    shifts = load_site(config).shifts if config else {}
    if by == "order":
        periods = Orders(access).between(*time)
    else:
        periods = shifts_between(*time, shifts) if by == "shift" else days_between(*time)
    units = _chosen(units_of(access), only)
    periods = within(periods, *time) or [Period("", time[1], time[1])]
    time = span(periods)  # kinds of the same parts: nothing counts before the first order
    groups = report(access, ReportQuery(by, tuple(periods), units), QueryBudget())
    kinds: Counter[str] = Counter()
    for pipeline in [only] if only else pipelines_of(access):
        for each in KindStore(access).counts(pipeline, since=time[0], until=time[1])["kinds"]:
            kinds[each["kind"]] += each["count"]
    return Printed(by, *time, groups, kinds)


def _chosen(units: list[tuple[Unit, bool]], only: str | None) -> tuple[Unit, ...]:
    if only is None:
        return tuple(unit for unit, counts_once in units if counts_once)
    found = tuple(unit for unit, _ in units if unit.name == only)
    if not found:
        names = ", ".join(unit.name for unit, _ in units) or "none"
        raise SettingsError(f"--pipeline {only}: the store has no such pipeline or part, these are: {names}")
    return found


def _write_report(found: Printed, output: Path | None, table: Format) -> None:
    from edgead.files.atomic import write_whole
    from edgead.line.evidence.production.formats import encode
    from edgead.line.evidence.production.report import COLUMNS, report_page, report_table

    if output is None:
        return
    if output.suffix.lower() == ".html":
        write_whole(output, report_page(found).encode())
    else:
        write_whole(output, b"".join(encode(table, COLUMNS, [report_table(found.groups)])))
    stderr.print(f"written: {output}", soft_wrap=True)


def _as_json(found: Printed) -> dict[str, Any]:
    from edgead.line.evidence.production.report import report_table, sum_of

    plain = [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
        for row in report_table(found.groups)
    ]
    head = {"by": found.by, "begin": found.begin.isoformat(), "end": found.end.isoformat()}
    return {**head, "total": sum_of(found.groups).figures(), "groups": plain, "kinds": dict(found.kinds)}


def _table(found: Printed) -> Table:
    from edgead.line.evidence.production.counts import total
    from edgead.line.evidence.production.report import PAGE_COLUMNS as COLUMNS
    from edgead.line.evidence.production.report import cells, sum_of, title_of

    groups = (cells(title_of(group), total(group.units.values())) for group in found.groups)
    titles, *rows = zip(COLUMNS, *groups, cells("all", sum_of(found.groups)), strict=True)
    shown = Table(title=f"by {found.by}", title_justify="left")
    for title in titles:
        shown.add_column(title, justify="right" if title else "left")
    for row in rows:
        shown.add_row(*row)
    return shown
