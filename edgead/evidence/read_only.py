"""A store that is read alone, while a daemon may be writing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from edgead.errors import SettingsError
from edgead.evidence.access import Access
from edgead.evidence.database import database_file, open_engine
from edgead.evidence.settings import StoreSection
from edgead.evidence.versions import check_version


@contextmanager
def opened_store(folder: Path, url: str | None = None) -> Iterator[Access]:
    """Open the database of a store for one who only reads it.

    Parameters
    ----------
    folder : Path
        Of the store, with its database where `url` names no other.
    url : str, optional
        SQLAlchemy URL of the database.

    Raises
    ------
    SettingsError
        There is no store.
    EvidenceError
        It cannot be read, or its tables are of another version.
    """
    engine = open_engine(StoreSection(folder=folder, url=url), read_only=True)
    file = database_file(engine)
    if file is not None and not file.is_file():
        raise SettingsError(f"{file} is not there: name the folder of an evidence store")
    now = datetime.now(timezone.utc)
    try:
        access = Access(engine, lambda: now)
        with access.reading() as connection:
            check_version(connection)
        yield access
    finally:
        engine.dispose()
