"""The evidence store as a sink of the camera loop: `sqlite:FOLDER?evidence=review`."""

from __future__ import annotations

from collections import deque

from edgead.evidence.database import EvidenceError
from edgead.evidence.store import EvidenceStore
from edgead.sinks.contract import SinkError
from edgead.site.schema import StoreSection
from edgead.types import Frame, Verdict


class StoreSink:
    """Records every verdict and keeps the pictures that the section asks for."""

    def __init__(self, uri: str, section: StoreSection):
        self.uri = uri
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
