"""Records of parts that several pipelines judge together: one row for each part."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine, select

from edgead.line.evidence.access import Access
from edgead.line.evidence.rows import RowWriter
from edgead.line.evidence.tables import parts
from edgead.line.evidence.versions import prepare_tables
from edgead.types import Frame, PartVerdict

_MAX_ROWS = 1000


class PartRecords:
    """Records of parts' verdicts; safe from any thread.

    A row is removed together with the record of the view that represents the part, when that record is too old.

    `within_s`: longest time, in seconds, that `add` waits until its row is written.
    """

    def __init__(self, access: Access, engine: Engine, within_s: float):
        self._access, self._engine, self._within_s = access, engine, within_s
        self._rows: RowWriter | None = None  # most sites have no parts, and need no thread for them
        self._opening = threading.Lock()

    def add(self, frame: Frame, verdict: PartVerdict) -> bool:
        """Record a part's verdict; return whether the row is committed, see `EvidenceStore.add`."""
        with self._opening:
            if self._rows is None:
                self._rows = RowWriter(self._engine, lambda: prepare_tables(self._engine), table=parts)
        row = {
            **asdict(frame.part),
            "id": frame.id,
            "part": verdict.pipeline,
            "decision": verdict.decision,
            "reason": verdict.reason,
            "captured_at": frame.captured_at,
            "judged_at": self._access.now(),
            "views": list(verdict.views),
        }
        return self._rows.commit(row, self._within_s)

    def newest(
        self, part: str, *, serial: str | None = None, before_id: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """List the verdicts on the parts that the site file calls `part`, newest first.

        `serial`: only parts with this serial number.
        `before_id`: only verdicts before the verdict with this id, which is the last of the previous page.
        """
        query = select(parts).where(parts.c.part == part).order_by(parts.c.seq.desc())
        if serial is not None:
            query = query.where(parts.c.serial == serial)
        if before_id is not None:
            before = select(parts.c.seq).where(parts.c.id == before_id, parts.c.part == part)
            query = query.where(parts.c.seq < before.scalar_subquery())
        with self._access.reading() as connection:
            return [dict(row._mapping) for row in connection.execute(query.limit(max(0, min(limit, _MAX_ROWS))))]

    def problems(self) -> list[str]:
        """List the reasons why parts cannot be recorded now; empty if there are none."""
        if self._rows is None or not self._rows.problem:
            return []
        counts = self._rows.counts
        return [f"parts are not recorded: {self._rows.problem}; {counts.waiting} wait, {counts.lost} lost"]

    def close(self, within_s: float) -> None:
        """Write the queued rows, as far as the time allows."""
        if self._rows is not None:
            self._rows.close(within_s)
