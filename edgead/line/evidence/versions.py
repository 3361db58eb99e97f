"""Version of the store's tables, and the upgrade of tables that an earlier edgead made."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from edgead.line.evidence.database import (
    DamagedTablesError,
    EvidenceError,
    database_file,
    is_damage,
    may_pass,
    problem_of,
    set_aside,
    shown_address,
)
from edgead.line.evidence.settings import FOLDER_MODE
from edgead.line.evidence.tables import SCHEMA_VERSION, metadata, schema, verdicts

logger = logging.getLogger(__name__)

# Statements that upgrade the tables of a version to the next, for SQLite and PostgreSQL. They never change once
# released, since today's columns are not those that they were written for. Missing tables and indexes are made
# afterwards.
_STEPS: dict[int, tuple[str, ...]] = {
    4: ("ALTER TABLE verdicts ADD COLUMN typical_score DOUBLE PRECISION",),
    5: (
        "ALTER TABLE verdicts ADD COLUMN first_line BIGINT",
        "ALTER TABLE verdicts ADD COLUMN lost_lines BIGINT",
        "ALTER TABLE verdicts ADD COLUMN first_mm DOUBLE PRECISION",
    ),
    6: ("ALTER TABLE verdicts ADD COLUMN other_format VARCHAR(16)",),
    7: ("ALTER TABLE verdicts ADD COLUMN measured JSON NOT NULL DEFAULT '{}'",),
    8: ("CREATE INDEX verdicts_by_name ON verdicts (name, seq) WHERE name <> ''",),
}
_LOCKED_S = 5


def begin_tables(engine: Engine, *, may_set_aside: bool) -> str | None:
    """Make or upgrade the tables when a store opens; do nothing if the database fails in a way that may pass.

    `may_set_aside`: whether a damaged file may be renamed, so that a new one begins.
    Returns message about a file that was set aside.
    Raises EvidenceError: the database cannot be opened; a full disk or a server that is away is no error, since it may
        pass.
    """
    file = database_file(engine)
    try:
        if file is not None:
            file.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        prepare_tables(engine)
    except (SQLAlchemyError, DamagedTablesError) as error:
        if may_pass(engine, error):
            return None
        aside = set_aside(engine, error) if may_set_aside else None
        if aside is None:
            raise EvidenceError(
                f"{shown_address(engine)}: cannot be opened: {problem_of(error)}; check path and rights"
            ) from None
        prepare_tables(engine)
        return f"the database was damaged ({problem_of(error)}): it is {aside} now, and a new one has begun"
    except OSError as error:
        raise EvidenceError(f"{file}: its folder cannot be made: {error.strerror}") from None
    return None


def prepare_tables(engine: Engine) -> None:
    """Make missing tables, and upgrade tables of an earlier edgead to this edgead's version.

    All steps are one transaction: if it is interrupted, the tables are as before.

    Raises EvidenceError: the tables were made by a newer edgead, by one too old to upgrade, or cannot be changed.
    Raises DamagedTablesError: the stored version is no number of a version.
    Raises SQLAlchemyError: the database cannot be reached or written; see `problem_of`.
    """
    with engine.connect() as connection:
        found = _version(connection)
        if found == SCHEMA_VERSION and not _missing(connection):
            return
    try:
        _make_or_upgrade(engine)
    except DBAPIError as error:
        if found in (None, SCHEMA_VERSION) or may_pass(engine, error) or is_damage(error):
            raise
        raise EvidenceError(
            f"{shown_address(engine)}: its tables are of version {found} and cannot be brought to version "
            f"{SCHEMA_VERSION}: {problem_of(error)}; give edgead the right to change them, or name another folder "
            "or database in `store:`"
        ) from None


def check_version(connection: Connection) -> None:
    """Raise EvidenceError unless the tables have this edgead's version, since a reader cannot upgrade them."""
    found = _version(connection)
    if found != SCHEMA_VERSION:
        holds = "holds no tables of an evidence store" if found is None else f"its tables are of version {found}"
        raise EvidenceError(
            f"{shown_address(connection.engine)}: {holds}, this edgead reads version {SCHEMA_VERSION}: start this "
            "edgead's `edgead daemon` on it once, which brings them to that"
        )


def _make_or_upgrade(engine: Engine) -> None:
    with _alone(engine) as connection:
        version = _version(connection)  # again: another process may have been faster
        for step in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
            for statement in _STEPS[step]:
                connection.exec_driver_sql(statement)
        metadata.create_all(connection)
        connection.execute(schema.delete())
        connection.execute(schema.insert().values(version=SCHEMA_VERSION))
    if version not in (None, SCHEMA_VERSION):
        logger.info("evidence tables upgraded", extra={"version_before": version, "version": SCHEMA_VERSION})


def _version(connection: Connection) -> int | None:
    """Read the version of the tables; None if there are none."""
    known = inspect(connection)
    version = connection.execute(select(schema.c.version)).scalar() if known.has_table(schema.name) else None
    if version is None and not known.has_table(verdicts.name):
        return None
    shown = shown_address(connection.engine)
    if not isinstance(version, int) or version < 1:
        raise DamagedTablesError(f"{shown}: schema_version is malformed: {str(version)[:40]!r}")
    if version > SCHEMA_VERSION:
        raise EvidenceError(
            f"{shown}: its tables are of version {version}, this edgead knows {SCHEMA_VERSION}: "
            "install the newer edgead again, or name another folder or database in `store:`"
        )
    if version < min(_STEPS):
        raise EvidenceError(
            f"{shown}: its tables are of version {version}, and this edgead changes those from version {min(_STEPS)} "
            "on: name another folder or database in `store:`"
        )
    return version


def _missing(connection: Connection) -> set[str]:
    return set(metadata.tables) - set(inspect(connection).get_table_names())


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that excludes other changes of tables, and whose statements have no time limit."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # sqlite3 by itself begins none before a change of tables
        else:
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCKED_S}s'")  # of a reader that takes long
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('edgead evidence'))")
        yield connection
        connection.commit()
