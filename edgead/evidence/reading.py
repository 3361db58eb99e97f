"""An evidence store that is read alone, beside the daemon that writes it or without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from edgead.errors import SettingsError
from edgead.evidence.access import Access
from edgead.evidence.database import database_file, open_engine
from edgead.evidence.folder import ImageFolder
from edgead.evidence.records import Records
from edgead.evidence.settings import StoreSection
from edgead.evidence.versions import check_version


@contextmanager
def opened_to_read(folder: Path, url: str | None) -> Iterator[tuple[Records, ImageFolder]]:
    """Open the records of a store and its images.

    Parameters
    ----------
    folder : Path
        Of the store: its images, and its database where `url` names no other.
    url : str, optional
        SQLAlchemy URL of the database.

    Raises
    ------
    SettingsError
        There is no store.
    EvidenceError
        It cannot be read.
    """
    engine = open_engine(StoreSection(folder=folder, url=url))
    file = database_file(engine)
    if file is not None and not file.is_file():
        raise SettingsError(f"{file} is not there: name the folder of an evidence store")
    try:
        access = Access(engine, lambda: datetime.now(timezone.utc))
        with access.reading() as connection:
            check_version(connection)
        yield Records(access), ImageFolder(folder / "pictures")
    finally:
        engine.dispose()
