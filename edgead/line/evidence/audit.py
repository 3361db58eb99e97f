"""Chain of the audit's rows, for its users: the last row, a check of the chain, and the export of all rows."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.files.table import safe_cell
from edgead.line.evidence import chain
from edgead.line.evidence.access import Access
from edgead.line.evidence.database import EvidenceError

_CHECK_EVERY_S = 60.0
_FIELDS = ("seq", "at", "by", "action", "pipeline", "before", "after", "previous", "hash")
_MAX_ROWS = 10_000_000


class AuditChain:
    """Chain of a store in use; safe from any thread."""

    def __init__(self, access: Access):
        self._access = access
        self._lock = threading.Lock()
        self._checked: chain.ChainCheck | None = None
        self._checked_s = 0.0
        # A database that is away is not asked again: the first change then reports it.
        with suppress(EvidenceError), access.reading() as connection:
            access.audit_head = chain.newest(connection)

    @property
    def head(self) -> chain.ChainHead | None:
        """Last known row: found at the start, or written here since; None if none is known."""
        return self._access.audit_head

    @property
    def problem(self) -> str | None:
        """Problem that the last check found."""
        return self._checked.problem if self._checked else None

    def watch(self) -> None:
        """Check all rows if the last row written here is gone; does nothing while the database is away."""
        with suppress(EvidenceError):
            if self.problem is None and self._is_cut():
                self.check()

    def _is_cut(self) -> bool:
        if self._access.audit_is_cut:
            return True
        known = self.head
        with self._access.reading() as connection:
            return not chain.is_there(connection, known)

    def check(self) -> chain.ChainCheck:
        """Check all rows; a result less than a minute old is returned again if the last row still exists.

        Raises EvidenceError: the database cannot be read.
        """
        with self._lock:
            checked, old = self._checked, time.monotonic() - self._checked_s > _CHECK_EVERY_S
            if checked is None or old or (checked.problem is None and self._is_cut()):
                self._access.audit_is_cut = False
                known = self.head  # before the rows: it is one of them
                with self._access.reading() as connection:
                    last = chain.last_numbered(connection)
                    checked = chain.check(chain.rows_of(connection), known.hash if known else None, last)
                self._checked, self._checked_s = checked, time.monotonic()
            return checked


def export_audit(rows: Iterable[chain.Row], file: Path) -> int:
    """Write all rows as JSON lines, or as CSV if the file's name ends with .csv; return their number.

    Raises OSError: the file cannot be written; an existing file stays as it was.
    """
    found = [{name: row[name] for name in _FIELDS} for row in rows]
    text = _as_table(found) if file.suffix == ".csv" else "".join(f"{json.dumps(row)}\n" for row in found)
    write_whole(file, text.encode())
    return len(found)


def read_exported(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of JSON lines that `export_audit` wrote.

    Raises SettingsError: a line is not a row of the audit.
    """
    with file.open(encoding="utf-8") as lines:
        for number, line in zip(range(1, _MAX_ROWS), lines, strict=False):
            try:
                row = json.loads(line)
                fits = isinstance(row, dict) and row.keys() == set(_FIELDS) and isinstance(row["seq"], int)
            except (ValueError, RecursionError):
                fits = False
            if not fits or not all(isinstance(row[name], str) for name in ("at", "previous", "hash")):
                raise SettingsError(f"{file}:{number}: is no row of an audit, as `edgead audit export` writes it")
            yield row


def _as_table(rows: list[dict[str, Any]]) -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, _FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        shown = {**row, "before": json.dumps(row["before"]), "after": json.dumps(row["after"])}
        writer.writerow({name: safe_cell(value) for name, value in shown.items()})
    return table.getvalue()
