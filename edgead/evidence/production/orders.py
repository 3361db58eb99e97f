"""Orders: what a person says is made from now on. Each lasts until the next one starts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select

from edgead.evidence.access import Access
from edgead.evidence.production.periods import Period
from edgead.evidence.tables import orders

_MAX_ROWS = 1000


class Orders:
    """The orders of an evidence store; safe from any thread."""

    def __init__(self, access: Access):
        self._access = access

    def start(self, *, name: str, batch: str, by: str) -> None:
        """Start an order, which ends the one before; audited.

        Raises
        ------
        EvidenceError
            It cannot be written.
        """
        after = {"name": name, "batch": batch}
        with self._access.writing() as connection:
            last = connection.execute(select(orders).order_by(orders.c.seq.desc()).limit(1)).first()
            before = None if last is None else {"name": last.name, "batch": last.batch}
            connection.execute(orders.insert().values(started_at=self._access.now(), by=by, **after))
            self._access.add_audit(connection, by=by, action="start_order", pipeline="", before=before, after=after)

    def newest(self, *, limit: int = 50) -> list[dict[str, Any]]:
        """List orders, the one that is made now first."""
        query = select(orders).order_by(orders.c.seq.desc()).limit(max(0, min(limit, _MAX_ROWS)))
        with self._access.reading() as connection:
            return [{**row._mapping, "started_at": row.started_at.isoformat()} for row in connection.execute(query)]

    def between(self, begin: datetime, end: datetime) -> list[Period]:
        """List the orders that have some of a time, the first one first; of a thousand at most, the newest."""
        starts = [(datetime.fromisoformat(row["started_at"]), row["name"]) for row in self.newest(limit=_MAX_ROWS)]
        starts.sort(key=lambda one: one[0])
        ends = [*(at for at, _ in starts[1:]), max(end, starts[-1][0])] if starts else []
        found = [Period(name, at, after) for (at, name), after in zip(starts, ends, strict=True)]
        return [period for period in found if max(begin, period.begin) < min(end, period.end)]
