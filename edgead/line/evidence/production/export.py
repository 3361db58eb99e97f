"""Verdicts of a period as files for other programs: a table, and the kept images, as a folder or a ZIP file.

Files are made piece by piece: at most one page of rows and one image is in memory.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, func, or_, select

from edgead.files.atomic import open_whole
from edgead.line.evidence.access import Access
from edgead.line.evidence.folder import ImageFolder
from edgead.line.evidence.production.counts import QueryBudget, pipelines_of
from edgead.line.evidence.production.formats import Format, GrowingFile, encode
from edgead.line.evidence.records import with_opinions
from edgead.line.evidence.tables import marks, verdicts
from edgead.types import Decision, scaled_score

PAGE = 500
COLUMNS = {
    "id": "text",
    "pipeline": "text",
    "judged_at": "instant",
    "captured_at": "instant",
    "number": "whole",
    "name": "text",
    "source": "text",
    "serial": "text",
    "batch": "text",
    "recipe": "text",
    **dict.fromkeys(("first_line", "lost_lines"), "whole"),
    "first_mm": "number",
    "decision": "text",
    **dict.fromkeys(("score", "image_score", "threshold", "review_threshold", "typical_score", "p_value"), "number"),
    "kind": "text",
    "model": "text",
    "other_format": "text",
    "measured": "text",
    "boxes": "text",
    "marked_at": "instant",
    "marked_by": "text",
    "mark_note": "text",
    "mark_verdict": "text",
    "images": "text",
}
"""Columns of an export, with the type of each: `boxes` and `measured` are JSON, `images` is their folder."""


@dataclass(frozen=True, slots=True)
class VerdictQuery:
    """Conditions that choose verdicts; None sets no condition."""

    begin: datetime
    end: datetime
    pipeline: str | None = None
    decision: Decision | None = None
    batch: str | None = None
    recipe: str | None = None
    marked: bool = False

    def conditions(self, pipeline: str) -> list[ColumnElement[bool]]:
        named = {"decision": self.decision, "batch": self.batch, "recipe": self.recipe}
        found = [verdicts.c[name] == value for name, value in named.items() if value is not None]
        found += [marks.c.id.is_not(None)] if self.marked else []
        return [verdicts.c.pipeline == pipeline, verdicts.c.judged_at < self.end, *found]


def pages(access: Access, wanted: VerdictQuery, budget: QueryBudget, *also: ColumnElement[bool]) -> Iterator[list[Row]]:
    """Yield pages of verdicts' rows, one pipeline after the other, each in order of time.

    The database is in use only while a page is read, so the consumer may be slow.

    `also` (ColumnElement): further conditions.
    Raises EvidenceError: the database cannot be read, or the budget is used up.
    """
    names = pipelines_of(access) if wanted.pipeline is None else [wanted.pipeline]
    for name in names:
        yield from _of_pipeline(access, [*wanted.conditions(name), *also], wanted.begin, budget)


def count(access: Access, wanted: VerdictQuery, budget: QueryBudget) -> int:
    """Count the rows that `pages` yields."""
    counted = 0
    for name in pipelines_of(access) if wanted.pipeline is None else [wanted.pipeline]:
        query = select(func.count()).select_from(verdicts)
        if wanted.marked:
            query = query.join(marks, and_(marks.c.id == verdicts.c.id, marks.c.pipeline == verdicts.c.pipeline))
        with access.reading() as connection:
            query = query.where(*wanted.conditions(name), verdicts.c.judged_at >= wanted.begin)
            counted += connection.execute(query).scalar() or 0
        budget.rest()
    return counted


def kept_images(access: Access, wanted: VerdictQuery, budget: QueryBudget) -> Iterator[VerdictImages]:
    """Yield the kept images of each wanted verdict; verdicts without images are left out."""
    for page in pages(access, wanted, budget, verdicts.c.folder.is_not(None)):
        for row in page:
            yield VerdictImages(row.folder, exported_name(row), row.judged_at)


def exported_name(row: Row) -> str:
    """Return the relative path of a verdict's images in an export; verdicts of `edgead stream` have no pipeline."""
    return f"{row.pipeline}/{row.id}" if row.pipeline else row.id


def as_row(row: Row) -> dict[str, Any]:
    """Convert a row of the database to a record with the names of `COLUMNS`."""
    record = {name: getattr(row, name, None) for name in COLUMNS}
    in_json = {name: json.dumps(record[name]) for name in ("boxes", "measured")}
    score = scaled_score(row.image_score, row.typical_score, row.threshold)
    return {**record, "score": score, "kind": row.shown_kind, **in_json, "images": row.folder}


def _of_pipeline(
    access: Access, conditions: list[ColumnElement[bool]], at: datetime, budget: QueryBudget
) -> Iterator[list[Row]]:
    seq = 0
    while True:
        after = or_(verdicts.c.judged_at > at, verdicts.c.seq > seq)
        query = with_opinions().where(*conditions, verdicts.c.judged_at >= at, after)
        with access.reading() as connection:
            found = list(connection.execute(query.order_by(verdicts.c.judged_at, verdicts.c.seq).limit(PAGE)))
        if found:
            yield found
        budget.rest()
        if len(found) < PAGE:
            return
        at, seq = found[-1].judged_at, found[-1].seq


class VerdictImages(NamedTuple):
    """Images of a verdict: their folder in the store, their path in an export, and the time of the verdict."""

    place: str
    name: str
    at: datetime


def size_of(folder: ImageFolder, kept: Iterable[VerdictImages]) -> int:
    """Return the bytes of all these images."""
    return sum(folder.size(one.place) for one in kept)


def zip_images(folder: ImageFolder, kept: Iterable[VerdictImages]) -> Iterator[bytes]:
    """Make a ZIP file of images; yield a piece of the file for each verdict, then the ZIP's directory.

    Images are not compressed, since JPEGs do not shrink. Images that retention removes meanwhile are left out.
    """
    made = GrowingFile()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for one in kept:
            add_images(archive, folder, one)
            yield made.take()
    yield made.take()


def add_images(archive: zipfile.ZipFile, folder: ImageFolder, one: VerdictImages) -> None:
    """Write the images of one verdict into an archive."""
    for name, data in images_of(folder, one):
        archive.writestr(zipfile.ZipInfo(name, one.at.timetuple()[:6]), data)


def images_of(folder: ImageFolder, one: VerdictImages) -> Iterator[tuple[str, bytes]]:
    """Yield the path in an export, and the bytes, of each image of a verdict that retention has not removed."""
    for name in folder.names(one.place):
        path = folder.path(one.place, name)
        try:
            data = path.read_bytes() if path else None
        except FileNotFoundError:
            data = None
        if data is not None:
            yield f"images/{one.name}/{name}", data


Progress = Callable[[str, int, int], None]
Write = Callable[[str, Iterable[bytes]], None]
"""Takes a file piece by piece, by its name within the export; the table that lists the files comes last."""


def write_into(folder: Path) -> Write:
    """Make a `Write` function that writes files into an existing folder."""

    def write(name: str, pieces: Iterable[bytes]) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.writelines(pieces)

    return write


@dataclass(frozen=True, slots=True)
class Export:
    """Content of an export: a table of verdicts in one format, with their images unless `images` is None."""

    access: Access
    wanted: VerdictQuery
    kind: Format
    images: ImageFolder | None = None

    def table(self, progress: Progress) -> Iterator[bytes]:
        """Encode the table; yield it piece by piece."""
        total, done = self.count(), 0

        def rows() -> Iterator[list[dict[str, object]]]:
            nonlocal done
            for page in pages(self.access, self.wanted, QueryBudget()):
                yield [as_row(row) for row in page]
                done += len(page)
                progress("write verdicts", done, total)

        return encode(self.kind, COLUMNS, rows())

    def count(self) -> int:
        return count(self.access, self.wanted, QueryBudget())

    def kept(self) -> Iterator[VerdictImages]:
        return kept_images(self.access, self.wanted, QueryBudget()) if self.images else iter(())


def write_export(export: Export, write: Write, progress: Progress) -> int:
    """Write the images, then the table of their verdicts; return the number of verdicts with images.

    Raises OSError: a file cannot be written.
    Raises EvidenceError: the database cannot be read.
    """
    table, written = export.table(progress), 0
    for one in export.kept():
        for name, data in images_of(_folder(export), one):
            write(name, [data])
        written += 1
        progress("write images", written, written)
    write(f"verdicts.{export.kind}", table)
    return written


def export_to_zip(export: Export, path: Path, progress: Progress) -> int:
    """Write table and images into a ZIP file, which appears when complete; return the count of verdicts with images."""
    written = 0
    with open_whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(f"verdicts.{export.kind}", "w", force_zip64=True) as table:
            for piece in export.table(progress):
                table.write(piece)
        for one in export.kept():
            add_images(archive, _folder(export), one)
            written += 1
            progress("write images", written, written)
    return written


def _folder(export: Export) -> ImageFolder:
    assert export.images is not None
    return export.images
