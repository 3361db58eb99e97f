"""Tables of images, CSV or Parquet: a row each, with the columns path and label, and mask, group and split if any."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgead.dataset.errors import DatasetError
from edgead.dataset.labelled import UNSPLIT, LabelledImage
from edgead.dataset.layouts.kinds import kind_of, split_of
from edgead.dataset.layouts.place import MAX_BYTES, Place, read_text
from edgead.process.installation import install_command

_COLUMNS = ("path", "label")


def read_table(place: Place) -> Iterable[LabelledImage] | None:
    """Read a table of our own: paths are relative to the folder that it lies in."""
    if file := place.file(".csv"):
        return _images(place, file, read_csv(file, _COLUMNS))
    if file := place.file(".parquet"):
        return _images(place, file, _read_parquet(file))
    return None


def read_csv(file: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Read rows of text, separated by commas, or by semicolons as some spreadsheets do.

    Raises
    ------
    DatasetError
        It cannot be read, lacks one of the columns, or a row has fewer or more cells.
    """
    text = read_text(file)
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


def _read_parquet(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise DatasetError(f"{file}: Parquet needs `{install_command('parquet')}`; CSV needs nothing") from None
    try:
        opened = pyarrow.parquet.ParquetFile(file)
        _check_columns(file, opened.schema_arrow.names, _COLUMNS)
        groups = [opened.metadata.row_group(i).total_byte_size for i in range(opened.metadata.num_row_groups)]
        if sum(groups) > MAX_BYTES:
            raise DatasetError(f"{file} has {sum(groups)} bytes, at most {MAX_BYTES} are read")
        known = [name for name in opened.schema_arrow.names if name in (*_COLUMNS, "mask", "group", "split")]
        return opened.read(columns=known).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} is no Parquet file: {error}") from error


def _check_columns(file: Path, found: Iterable[str], wanted: Iterable[str]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DatasetError(f"{file} has no column {' and no '.join(missing)}; it has {', '.join(found) or 'nothing'}")


def _images(place: Place, file: Path, rows: Iterable[Mapping[str, Any]]) -> Iterator[LabelledImage]:
    for number, row in enumerate(rows, 2):
        cells = {name: "" if value is None else str(value).strip() for name, value in row.items()}
        if not cells["label"]:
            raise DatasetError(f"row {number} of {file} has no label: write good, or the kind of the defect")
        split = split_of(cells.get("split", ""))
        if cells.get("split") and split == UNSPLIT:
            raise DatasetError(f"row {number} of {file} is of the split {cells['split']!r}: train, validation or test")
        mask = place.find(cells["mask"], file) if cells.get("mask") else None
        path = place.find(cells["path"], file)
        yield LabelledImage(path, kind_of([cells["label"]]), mask, split, cells.get("group") or None)
