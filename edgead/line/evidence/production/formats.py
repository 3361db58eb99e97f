"""Formats of exported rows, encoded piece by piece: CSV without formulas, JSON lines, Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, get_args

from edgead.errors import SettingsError
from edgead.files.table import safe_cell
from edgead.process.installation import install_command

Format = Literal["csv", "parquet", "jsonl"]
Annotations = Literal["coco", "yolo"]
FORMATS: tuple[Format, ...] = get_args(Format)
Columns = Mapping[str, str]
"""Names of columns with their types: text, whole, number, instant."""
Rows = Sequence[Mapping[str, Any]]


class GrowingFile(io.RawIOBase):
    """File in memory, not seekable: a writer fills it, and `take` empties it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def tell(self) -> int:
        return self._at

    def take(self) -> bytes:
        """Return the bytes written since the last call."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def encode(kind: Format, columns: Columns, pages: Iterable[Rows]) -> Iterator[bytes]:
    """Encode rows as a file; yield a piece of the file for each page of rows.

    Raises SettingsError: for Parquet without pyarrow: at once, before anything is written.
    """
    writers: dict[str, Callable[[Columns, Iterable[Rows]], Iterator[bytes]]] = {"csv": _csv, "jsonl": _jsonl}
    if kind != "parquet":
        return writers[kind](columns, pages)
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise SettingsError(f"Parquet needs `{install_command('parquet')}`; csv and jsonl need nothing") from None
    return _parquet(pyarrow, columns, pages)


def _csv(columns: Columns, pages: Iterable[Rows]) -> Iterator[bytes]:
    yield _csv_lines([list(columns)])
    for page in pages:
        yield _csv_lines([[safe_cell(row.get(name)) for name in columns] for row in page])


def _csv_lines(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")


def _jsonl(columns: Columns, pages: Iterable[Rows]) -> Iterator[bytes]:
    for page in pages:
        lines = (json.dumps({name: _plain(row.get(name)) for name in columns}, ensure_ascii=False) for row in page)
        yield "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _parquet(pyarrow: Any, columns: Columns, pages: Iterable[Rows]) -> Iterator[bytes]:
    kinds = {
        "text": pyarrow.string(),
        "whole": pyarrow.int64(),
        "number": pyarrow.float64(),
        "instant": pyarrow.timestamp("us", "UTC"),
    }
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    file = GrowingFile()
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for page in pages:
            if page:
                rows = [{name: _text(row.get(name)) for name in columns} for row in page]
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            yield file.take()
    yield file.take()


def _text(value: Any) -> Any:
    # A file's name may hold bytes that are no UTF-8.
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
