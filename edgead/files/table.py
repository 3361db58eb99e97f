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

# Characters that begin a formula in a spreadsheet, also in the full width of East Asian keyboards.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
# Characters that move the cursor, rename the terminal or reverse a line: names of files and devices come from others.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def show_commands(text: str) -> str:
    """Escape the terminal commands in a text, so that no terminal obeys them."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def safe_cell(value: Any) -> Any:
    """Make a value safe for spreadsheets and terminals: a text that would be a formula gets a leading '."""
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        return value
    return ("'" if value.startswith(_FORMULA) else "") + show_commands(value)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the given columns of each row as CSV; a cell is empty where the row lacks the column.

    File names that are not valid text are written with escapes.

    Raises OSError: it cannot be written; what was there before stays as it was.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: safe_cell(value) for name, value in row.items()} for row in rows)
    write_whole(path, text.getvalue().encode(errors="backslashreplace"), durable=False)
