"""Tables for spreadsheets: CSV with a heading, written atomically."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgead.files.atomic import write_whole


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
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode(errors="backslashreplace"), durable=False)
