"""Verdicts of a store as files for others: a table, and the images that are kept of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgead.evidence.access import Access
from edgead.evidence.folder import ImageFolder
from edgead.evidence.production.formats import Format, encode
from edgead.evidence.production.query_budget import QueryBudget
from edgead.evidence.production.verdict_pages import COLUMNS, Wanted, as_row, count, kept_images, pages
from edgead.evidence.production.zipped import Kept, add_images, images_of
from edgead.files.atomic import open_whole
from edgead.files.new_folder import new_folder

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Export:
    """What is written: verdicts as a table of a format, with their images where `images` is their folder."""

    access: Access
    wanted: Wanted
    kind: Format
    images: ImageFolder | None = None

    def table(self, progress: Progress) -> Iterator[bytes]:
        """Write the table piece by piece."""
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

    def kept(self) -> Iterator[Kept]:
        return kept_images(self.access, self.wanted, QueryBudget()) if self.images else iter(())


def export_to_folder(export: Export, folder: Path, progress: Progress) -> int:
    """Write the table and the images into a new folder; gives the number of verdicts with images.

    Raises
    ------
    FileExistsError
        The folder is there and not empty.
    OSError
        It cannot be written: then there is none.
    EvidenceError
        The database cannot be read.
    """
    written = 0
    with new_folder(folder) as draft:
        with open(draft / f"verdicts.{export.kind}", "wb") as file:
            file.writelines(export.table(progress))
        for one in export.kept():
            for name, data in images_of(_folder(export), one):
                path = draft / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            written += 1
            progress("write images", written, written)
    return written


def export_to_zip(export: Export, path: Path, progress: Progress) -> int:
    """Write the same into a ZIP file, which is there once it is whole."""
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
