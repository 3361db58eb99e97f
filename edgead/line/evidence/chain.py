"""The audit as a chain: each row's hash covers its content and the hash of the row before it.

A row that is changed, inserted, removed or moved breaks the chain. Rows cut off at the end do not break it: SQLite's
numbering reveals that they are missing; so do a running daemon, which knows the last row, and a hash kept elsewhere. If
somebody who may write the database makes the whole chain again, only the daemon and that hash reveal it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from sqlalchemy import Connection, func, select, text, update
from sqlalchemy import Row as DatabaseRow

from edgead.line.evidence.tables import audit

logger = logging.getLogger(__name__)

FIRST = "0" * 64
"""Stands for the hash of a row before the first."""

UNREADABLE = "unreadable"
"""Action shown for a damaged row that cannot be read."""

_AT_ONCE = 1000
_FORM = "edgead audit 1"
_SAID = ("seq", "at", "by", "action", "pipeline", "before", "after")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The last row of a chain."""

    seq: int = 0
    hash: str = FIRST


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """Result of checking the hash chain of the audit.

    `rows`: number of valid rows from the start.
    `head`: last of the valid rows.
    `problem`: problem of the first row that is not valid, or of the hash kept elsewhere; None if there is none.
    """

    rows: int
    head: ChainHead
    problem: str | None = None


def append(connection: Connection, change: Row, known: ChainHead | None = None) -> tuple[ChainHead, bool]:
    """Append a row to the audit, in the connection's transaction.

    Returns the new head, and whether the row of the known head still exists.

    If that row is gone, the new row carries the known head's hash anyway: so the chain stays broken, and shows where.
    """
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time: the one that has inserted
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext("edgead audit"))))
    connection.execute(audit.insert().values(previous="", hash="", **change))
    # As the database stores it: it may round a time.
    mine = connection.execute(select(audit).order_by(audit.c.seq.desc()).limit(1)).one()
    # Only the hash of the row before is read: damage to it must not stop later rows.
    hashes = select(audit.c.hash).where(audit.c.seq < mine.seq).order_by(audit.c.seq.desc()).limit(1)
    before = connection.execute(hashes).first()
    previous = FIRST if before is None else str(before.hash)
    whole = is_there(connection, known)
    if known is not None and not whole:
        logger.error("audit: row %d, %s, is no longer there: see `edgead audit verify`", known.seq, known.hash)
        previous = known.hash
    head = ChainHead(mine.seq, hash_of(as_written(mine), previous))
    connection.execute(update(audit).where(audit.c.seq == head.seq).values(previous=previous, hash=head.hash))
    return head, whole


def is_there(connection: Connection, known: ChainHead | None) -> bool:
    """Return whether a row that was once the last still exists; also True if none is known."""
    if known is None or not known.seq:
        return True
    return connection.scalar(select(audit.c.hash).where(audit.c.seq == known.seq)) == known.hash


def last_numbered(connection: Connection) -> int | None:
    """Return the number of the last row ever written; None if the database may skip numbers, as PostgreSQL does."""
    if connection.dialect.name != "sqlite":
        return None
    return connection.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'audit'")) or 0


def newest(connection: Connection) -> ChainHead:
    """Read the last row's number and hash, without a check of the chain."""
    row = connection.execute(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).first()
    return ChainHead() if row is None else ChainHead(row.seq, row.hash)


def rows_of(connection: Connection) -> Iterator[dict[str, Any]]:
    """Yield all rows in order, in the form that `read_rows` returns."""
    query = select(audit.c.seq).order_by(audit.c.seq).limit(_AT_ONCE)
    seqs = connection.scalars(query).all()
    while seqs:
        yield from read_rows(connection, seqs)
        seqs = connection.scalars(query.where(audit.c.seq > seqs[-1])).all()


def read_rows(connection: Connection, seqs: Sequence[int]) -> list[dict[str, Any]]:
    """Read the rows of these numbers, in the given order, in the form that `as_written` returns.

    A damaged row has no content and no hash, and its `action` is `UNREADABLE`.
    """
    try:
        found = {row.seq: as_written(row) for row in connection.execute(select(audit).where(audit.c.seq.in_(seqs)))}
        return [found[seq] for seq in seqs]
    except (ValueError, TypeError, RecursionError) as error:
        if len(seqs) > 1:
            return [row for seq in seqs for row in read_rows(connection, [seq])]
        why = f"{type(error).__name__}: {error}"
        nothing = dict.fromkeys(("at", "by", "pipeline", "previous", "hash"), "")
        return [{"seq": seqs[0], "action": UNREADABLE, "before": None, "after": why, **nothing}]


def as_written(row: DatabaseRow) -> dict[str, Any]:
    """Convert a row of the database to the form that is hashed and exported: plain JSON, UTC with microseconds.

    Raises ValueError, TypeError, RecursionError: the row has values that edgead does not write.
    """
    written = {**row._asdict(), "at": row.at.isoformat(timespec="microseconds")}
    hash_of(written, written["previous"])
    return written


def hash_of(row: Row, previous: str) -> str:
    """Return the SHA-256 of a JSON list, ASCII without spaces: form, hash of the previous row, the row's content."""
    content = [_FORM, previous, *(row[name] for name in _SAID)]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check(rows: Iterable[Row], kept: str | None = None, last: int | None = None) -> ChainCheck:
    """Compare every row with the row's hash and with the row before it.

    `rows`: rows in order, in the form that `as_written` returns.
    `kept`: hash of a row that was once the last, kept where nobody could change it.
    `last`: number of the last row ever written (see `last_numbered`): no number up to this may be missing.
    """
    left, head, seen = iter(rows), ChainHead(), {FIRST}
    for row in left:
        if row["hash"] != hash_of(row, row["previous"]):
            return ChainCheck(len(seen) - 1, head, _not_its_own(row))
        if row["previous"] != head.hash:
            return ChainCheck(len(seen) - 1, head, _not_behind(row, head, seen, chain([row], left)))
        if last is not None and row["seq"] != head.seq + 1:
            return ChainCheck(len(seen) - 1, head, _not_next(row, head))
        head = ChainHead(row["seq"], row["hash"])
        seen.add(head.hash)
    cut = ""
    if kept is not None and kept not in seen:
        cut = f"no row has the hash {kept}: rows were cut off at the end, or the whole chain was made again; "
    elif last is not None and head.seq < last:
        cut = f"row {last} is not there: rows were cut off at the end; "
    return ChainCheck(len(seen) - 1, head, cut + _end(head) if cut else None)


def _not_its_own(row: Row) -> str:
    if row["action"] == UNREADABLE:
        return f"row {row['seq']} cannot be read ({row['after']}): something else than edgead has written it"
    if not row["hash"]:
        return f"row {row['seq']} of {_day(row)} has no hash: something else than edgead has written it"
    return f"row {row['seq']} of {_day(row)} was changed: its hash is not that of what it says"


def _not_behind(row: Row, head: ChainHead, seen: set[str], left: Iterable[Row]) -> str:
    """Explain why a row does not follow the previous one, though its own hash is right."""
    where = f"row {head.seq}" if head.seq else "the beginning"
    if row["previous"] in seen:
        return f"row {row['seq']} of {_day(row)} was not written behind {where}: rows were put in between, or moved"
    if any(other["hash"] == row["previous"] for other in left):
        return f"row {row['seq']} of {_day(row)} was written behind one that comes later: rows were moved"
    return f"row {row['seq']} of {_day(row)} was not written behind {where}: rows between them were taken out"


def _not_next(row: Row, head: ChainHead) -> str:
    where = f"row {head.seq}" if head.seq else "the beginning"
    return f"row {row['seq']} of {_day(row)} comes behind {where}: rows between them were taken out"


def _end(head: ChainHead) -> str:
    return f"it ends with row {head.seq}, {head.hash}" if head.seq else "it is empty"


def _day(row: Row) -> str:
    try:
        return datetime.fromisoformat(row["at"]).date().isoformat()
    except ValueError:
        return "no date"
