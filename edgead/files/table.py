"""Tables for spreadsheets: CSV with a heading, written atomically."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from edgead.files.atomic import write_whole

# What a spreadsheet takes for the begin of a formula, also in the full width of East Asian keyboards.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def safe_cell(value: Any) -> Any:
    """Give a value that a spreadsheet shows as it is: a text that it would take for a formula begins with '."""
    if isinstance(value, datetime):
        return value.isoformat()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV: of each the columns, empty where it has none of them.

    Names of files that are no text are written with escapes.

    Raises
    ------
    OSError
        It cannot be written; what was there before stays as it was.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: safe_cell(value) for name, value in row.items()} for row in rows)
    write_whole(path, text.getvalue().encode(errors="backslashreplace"), durable=False)
