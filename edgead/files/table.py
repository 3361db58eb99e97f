"""Tables for spreadsheets: CSV with a heading, written atomically."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from edgead.files.atomic import write_whole

# What a spreadsheet takes for the begin of a formula, also in the full width of East Asian keyboards.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
# What moves the cursor, renames the terminal or turns a line around: names of files and of devices come from others.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def show_commands(text: str) -> str:
    """Write the commands that a text holds for a terminal with escapes, so that none follows them."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def safe_cell(value: Any) -> Any:
    """Give a value that spreadsheets and terminals show as it is: a text that would be a formula begins with '."""
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        return value
    return ("'" if value.startswith(_FORMULA) else "") + show_commands(value)


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
