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

MAX_ROWS = 1_000_000
_COLUMNS = ("path", "label")
_REPEATING = (
    "DELTA_BYTE_ARRAY"  # an encoding of texts by what they share with the one before: a few bytes make any text
)


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
        It cannot be read, lacks one of the columns, has more than `MAX_ROWS` rows, or a row has fewer or more cells.
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


def _read_parquet(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise DatasetError(f"{file}: Parquet needs `{install_command('parquet')}`; CSV needs nothing") from None
    try:
        opened = pyarrow.parquet.ParquetFile(file)
        _check_columns(file, opened.schema_arrow.names, _COLUMNS)
        known = [name for name in opened.schema_arrow.names if name in (*_COLUMNS, "mask", "group", "split")]
        about = opened.metadata
        _check_most(file, about.num_rows, "rows", MAX_ROWS)
        parts = [about.row_group(i).column(j) for i in range(about.num_row_groups) for j in range(about.num_columns)]
        parts = [part for part in parts if part.path_in_schema in known]
        _check_most(file, sum(part.total_uncompressed_size for part in parts), "bytes", MAX_BYTES)
        for name in known:
            encodings = {each for part in parts if part.path_in_schema == name for each in part.encodings}
            kind = opened.schema_arrow.field(name).type
            if pyarrow.types.is_nested(kind) or pyarrow.types.is_fixed_size_binary(kind):
                raise DatasetError(f"column {name} of {file} is of the type {kind}: write text or numbers")
            if _REPEATING in encodings:
                raise DatasetError(f"column {name} of {file} has the encoding {_REPEATING}: write it with another one")
        # A dictionary stays one: a long text that many rows have lies in memory once, until its length is counted.
        coded = {part.path_in_schema for part in parts if part.physical_type == "BYTE_ARRAY" and _is_coded(part)}
        opened = pyarrow.parquet.ParquetFile(file, read_dictionary=sorted(coded))
        rows: list[dict[str, Any]] = []
        decoded = 0
        for batch in opened.iter_batches(columns=known):
            decoded += sum(map(_decoded_bytes, batch.columns))
            _check_most(file, decoded, "bytes", MAX_BYTES)
            rows += batch.to_pylist()
            _check_most(file, len(rows), "rows", MAX_ROWS)
        return rows
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} is no Parquet file that can be read: {error}") from error


def _is_coded(part: Any) -> bool:
    """Whether a part of a column of Parquet has a dictionary."""
    return any("DICTIONARY" in encoding for encoding in part.encodings)


def _decoded_bytes(column: Any) -> int:
    """The bytes of a column of Arrow, each row with its own text."""
    import pyarrow.compute

    if not hasattr(column, "dictionary"):
        return int(column.nbytes)
    lengths = pyarrow.compute.binary_length(column.dictionary)
    return pyarrow.compute.sum(lengths.take(column.indices)).as_py() or 0


def _check_most(file: Path, found: int, what: str, most: int) -> None:
    if found > most:
        raise DatasetError(f"{file} has {found} {what} or more, at most {most} are read: split it")


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
