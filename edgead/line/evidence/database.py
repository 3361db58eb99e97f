"""Database of the evidence store: address, durability, and texts of errors."""

from __future__ import annotations

import sqlite3
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from edgead.components.uri import without_credentials
from edgead.errors import EdgeadError, NotNowError, SettingsError
from edgead.line.evidence.settings import StoreSection
from edgead.process.installation import install_command

MAX_LOG = 4 * 2**20
_WAIT_S = 5
_SQLITE = (
    # A commit logs the five or six pages that a row touches: small ones write less to the disk.
    "page_size=1024",
    "journal_mode=WAL",
    # A commit is in the system's memory and outlives the process; `edgead.line.evidence.upkeep` brings it to the disk.
    "synchronous=NORMAL",
    # Moving the log into the database waits for the disk: upkeep does it, where no verdict waits.
    "wal_autocheckpoint=0",
    f"journal_size_limit={MAX_LOG}",
)
# A server that does not answer must not hold a writer for minutes, as TCP's own limits would.
_POSTGRESQL = {
    "connect_timeout": _WAIT_S,
    "tcp_user_timeout": _WAIT_S * 1000,
    "options": f"-c statement_timeout={_WAIT_S * 1000}",
}
_READ_ONLY = f"{_POSTGRESQL['options']} -c default_transaction_read_only=on"


class EvidenceError(EdgeadError):
    """Evidence store that cannot be opened, read or written; the message holds no credentials."""


class StoreAwayError(EvidenceError, NotNowError):
    """Database that cannot be read or written now: locked, full, damaged or not reachable; nothing was written."""


class DamagedTablesError(EvidenceError):
    """Tables with data that edgead has not written."""


def open_engine(section: StoreSection, *, read_only: bool = False) -> Engine:
    """Make the engine of a store, without connecting yet.

    `read_only`: whether the database itself refuses changes.
    Raises SettingsError: the address is no SQLAlchemy URL of SQLite or PostgreSQL, or a driver is missing.
    """
    url = _address(section)
    shown = without_credentials(str(url))
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": _WAIT_S})
        event.listen(engine, "connect", _only_read if read_only else _prepare_sqlite)
        return engine
    if url.get_backend_name() != "postgresql":
        raise SettingsError(f"store.url {shown}: only sqlite and postgresql are known")
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            hide_parameters=True,
            pool_pre_ping=True,
            pool_timeout=_WAIT_S,
            connect_args=_POSTGRESQL | ({"options": _READ_ONLY} if read_only else {}),
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        raise SettingsError(f"store.url {shown}: needs `{install_command('postgresql')}`") from None


def _address(section: StoreSection) -> URL:
    if section.url is None:
        return URL.create("sqlite", database=str(section.folder / "verdicts.sqlite"))
    try:
        url = make_url(section.url)
    except (ArgumentError, ValueError):
        raise SettingsError("store.url: is no SQLAlchemy URL, such as sqlite:////var/lib/edgead/x.sqlite") from None
    shown = without_credentials(section.url)
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise SettingsError(f"store.url {shown}: a database in memory keeps nothing; name a file")
    return url


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    try:
        for setting in _SQLITE:
            connection.execute(f"PRAGMA {setting}").close()
    except sqlite3.Error:
        connection.close()
        raise


def _only_read(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA query_only=1").close()


def close_engine(engine: Engine) -> None:
    """Close the idle connections now, and each busy connection when its user returns it."""
    event.listen(engine, "checkin", _close_returned)  # a disk that hangs may hold one for longer than the store waits
    engine.dispose()


def _close_returned(_connection: Any, entry: ConnectionPoolEntry) -> None:
    entry.invalidate()


def shown_address(engine: Engine) -> str:
    """Return the database's address without credentials."""
    url = engine.url
    return str(url.database) if url.get_backend_name() == "sqlite" else without_credentials(str(url))


def database_file(engine: Engine) -> Path | None:
    """Return the file of an SQLite database; None for the database of a server."""
    return Path(str(engine.url.database)) if engine.url.get_backend_name() == "sqlite" else None


def problem_of(error: Exception) -> str:
    """Return the database's own error in one line, without statements and values."""
    if not isinstance(error, SQLAlchemyError):
        return str(error)
    said = str(getattr(error, "orig", None) or type(error).__name__).strip()
    return said.splitlines()[0] if said else type(error).__name__


def unreachable(engine: Engine, doing: str, error: Exception) -> EvidenceError:
    """Make the error of a failed operation: EvidenceError for values that no database takes, else StoreAwayError."""
    values = isinstance(error, (UnicodeError, DataError, IntegrityError))
    return (EvidenceError if values else StoreAwayError)(f"{shown_address(engine)}: {doing}: {problem_of(error)}")


def is_damage(error: Exception) -> bool:
    """Return whether SQLite reports that the file itself is damaged."""
    return any(words in problem_of(error) for words in ("not a database", "malformed"))


def set_aside(engine: Engine, error: Exception) -> Path | None:
    """Rename a damaged SQLite file with its log, and return its new path; None if the file is not damaged."""
    file = database_file(engine)
    if file is None or not is_damage(error):
        return None
    engine.dispose()
    aside = next(path for index in count(1) if not (path := file.with_name(f"{file.name}.damaged-{index}")).exists())
    for ending in ("", "-wal", "-shm"):
        part = file.with_name(file.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    return aside


def may_pass(engine: Engine, error: Exception) -> bool:
    """Return whether a failure may end by itself, as with a full disk or a server that does not answer."""
    if not isinstance(error, OperationalError):
        return False
    if engine.url.get_backend_name() != "sqlite":
        return True
    # On a full disk the shared memory beside the log cannot grow either, which SQLite calls an I/O error.
    return any(words in str(error.orig) for words in ("disk is full", "disk I/O error", "locked"))
