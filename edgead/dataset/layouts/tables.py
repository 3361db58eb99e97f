"""CSV tables of images: one row for each, with the columns path and label, and optionally mask, group and split."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import UNSPLIT, LabelledImage
from edgead.dataset.layouts.kinds import kind_of, split_of
from edgead.dataset.layouts.place import DataSetPath, read_text

MAX_ROWS = 1_000_000
# Names that anomalib's table has for the columns, after ours.
_OTHER_NAMES = {"path": "image_path", "label": "label_index", "mask": "mask_path"}


def read_table(place: DataSetPath) -> Iterable[LabelledImage] | None:
    """Read a table in edgead's format or of anomalib's Tabular; paths are relative to the table's folder."""
    if file := place.file(".csv"):
        return _images(place, file, read_csv(file, ("path or image_path", "label or label_index")))
    return None


def read_csv(file: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Read the rows of a CSV file, separated by commas, or by semicolons as some spreadsheets do.

    Of a column "path or image_path" it needs one.

    Raises DatasetError: the file cannot be read, lacks a column, has more than `MAX_ROWS` rows, or a row has fewer or
        more cells.
    """
    text = read_text(file)
    _check_most(file, text.count("\n") + text.count("\r") - text.count("\r\n") - 1, "rows", MAX_ROWS)
    head = text.partition("\n")[0]
    try:
        table = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in head else ",")
        _check_columns(file, table.fieldnames or (), columns)
        rows = list(table)
    except csv.Error as error:
        raise DatasetError(f"{file} is no CSV file: {error}") from error
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise DatasetError(f"row {number} of {file} has not as many cells as the first")
    return rows


def _check_most(file: Path, found: int, what: str, most: int) -> None:
    if found > most:
        raise DatasetError(f"{file} has {found} {what} or more, at most {most} are read: split it")


def _check_columns(file: Path, found: Iterable[str], wanted: Iterable[str]) -> None:
    missing = [names for names in wanted if not set(names.split(" or ")) & set(found)]
    if missing:
        raise DatasetError(f"{file} has no column {' and no '.join(missing)}; it has {', '.join(found) or 'nothing'}")


def _images(place: DataSetPath, file: Path, rows: Iterable[Mapping[str, Any]]) -> Iterator[LabelledImage]:
    for number, row in enumerate(rows, 2):
        cells = {name: "" if value is None else str(value).strip() for name, value in row.items()}
        if cells.get("label_index") in ("0", "1"):
            cells["label"] = "anomaly" if int(cells["label_index"]) else "good"
        cells = {
            **cells,
            **{ours: cells[other] for ours, other in _OTHER_NAMES.items() if ours not in cells and other in cells},
        }
        if not cells["label"]:
            raise DatasetError(f"row {number} of {file} has no label: write good, or the kind of the defect")
        split = split_of(cells.get("split", ""))
        if cells.get("split") and split == UNSPLIT:
            raise DatasetError(f"row {number} of {file} is of the split {cells['split']!r}: train, validation or test")
        mask = place.find(cells["mask"], file) if cells.get("mask") else None
        path = place.find(cells["path"], file)
        yield LabelledImage(path, kind_of([cells["label"]]), mask, split, cells.get("group") or None)
