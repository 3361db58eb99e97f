"""The evidence store as a sink of the camera loop: `sqlite:FOLDER?evidence=review`."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgead.line.evidence.settings import KeepDays, Kept, RecentSection, StoreSection
from edgead.sinks.contract import BaseSink, SinkError
from edgead.sinks.options import SinkOptions, read_path
from edgead.sinks.registry import register
from edgead.types import Frame, Verdict


class SqliteOptions(SinkOptions):
    """The evidence store: every verdict in SQLite, and images of some."""

    kind: Literal["sqlite"]
    folder: Annotated[Path, Field(description="Folder of the database and the images.")]
    evidence: Annotated[Kept, Field(description="Verdicts that keep images; review includes rejects.")] = "review"
    keep_days: KeepDays = 90.0


class StoreSink(BaseSink):
    """Sink that records every verdict and keeps the images that the section asks for."""

    def __init__(self, section: StoreSection):
        from edgead.line.evidence import EvidenceError, EvidenceStore  # only those who keep evidence need its packages

        self.uri = f"sqlite:{section.folder}"
        self._before: deque[Frame] = deque(maxlen=section.before)
        self._closed = False
        try:
            self._store = EvidenceStore(section)
        except EvidenceError as error:
            raise SinkError(str(error)) from None

    def write(self, frame: Frame, verdict: Verdict) -> None:
        self._store.add(frame, verdict)
        self._store.follow(frame)
        self._store.keep(frame, verdict, tuple(self._before))
        self._before.append(frame)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        problems = self._store.problems()
        self._store.close()
        lost = self._store.status()["rows_lost"]
        if lost or problems:
            raise SinkError("; ".join([f"{self.uri}: {lost} verdicts were not recorded", *problems]))


def _open(name: str, options: SqliteOptions) -> StoreSink:
    none = RecentSection(frames=0)  # nobody can mark a part here while it passes
    return StoreSink(
        StoreSection(folder=options.folder, evidence=options.evidence, keep_days=options.keep_days, recent=none)
    )


register(
    "sqlite",
    SqliteOptions,
    _open,
    schemes={"sqlite": "sqlite:FOLDER?evidence=review&keep_days=90"},
    read_uri=lambda uri: read_path(uri, ("evidence", "keep_days"), "folder"),
)
