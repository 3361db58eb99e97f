"""Reader of the evidence store, and writer of what people change."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from edgead.evidence import chain
from edgead.evidence.access import Access
from edgead.evidence.queries import as_record, is_marked, is_of_part, is_shown_as, one, with_opinions
from edgead.evidence.tables import audit, verdicts
from edgead.types import DECISIONS, NO_PART, Opinion, Part

_MAX_ROWS = 1000
_NAME = re.compile(r"[!-~]{1,64}")


class Records:
    """Queries of the page and the API; safe from any thread."""

    def __init__(self, access: Access):
        self._access = access

    def newest(
        self,
        *,
        limit: int,
        pipeline: str | None = None,
        decision: str | None = None,
        kind: str | None = None,
        part: Part = NO_PART,
        mark: Opinion | None = None,
        before_id: str | None = None,
    ) -> list[tuple[dict[str, Any], str | None]]:
        """Records and the places of their images."""
        if not all(_NAME.fullmatch(name) for name in (pipeline, decision, before_id) if name):
            return []
        query = with_opinions().order_by(verdicts.c.seq.desc()).limit(max(0, min(limit, _MAX_ROWS)))
        query = query.where(*is_of_part(part))
        if pipeline is not None:
            query = query.where(verdicts.c.pipeline == pipeline)
        if decision is not None:
            query = query.where(verdicts.c.decision == decision)
        if kind is not None:
            query = query.where(is_shown_as(kind, pipeline))
        if mark is not None:
            query = query.where(is_marked(mark))
        if before_id is not None:
            before = select(func.min(verdicts.c.seq)).where(verdicts.c.id == before_id)
            if pipeline is not None:
                before = before.where(verdicts.c.pipeline == pipeline)
            query = query.where(verdicts.c.seq < before.scalar_subquery())
        with self._access.reading() as connection:
            return [(as_record(row), row.folder) for row in connection.execute(query)]

    def find(self, id: str, pipeline: str | None) -> tuple[dict[str, Any], str | None] | None:
        """A record and the place of its images."""
        if not _NAME.fullmatch(id):
            return None
        with self._access.reading() as connection:
            row = connection.execute(one(id, pipeline)).first()
        return None if row is None else (as_record(row), row.folder)

    def counts(self, *, pipeline: str | None, since: datetime | None) -> dict[str, int]:
        query = select(verdicts.c.decision, func.count()).group_by(verdicts.c.decision)
        if pipeline is not None:
            query = query.where(verdicts.c.pipeline == pipeline)
        if since is not None:
            # Walks back from the newest, so that a day costs a day and not the years before it.
            last_before = select(verdicts.c.seq).where(verdicts.c.judged_at < since)
            last_before = last_before.order_by(verdicts.c.seq.desc()).limit(1)
            query = query.where(verdicts.c.seq > func.coalesce(last_before.scalar_subquery(), 0))
        with self._access.reading() as connection:
            found = {decision: count for decision, count in connection.execute(query)}
        return {decision: found.get(decision, 0) for decision in DECISIONS}

    def add_audit(self, **change: Any) -> None:
        with self._access.writing() as connection:
            self._access.add_audit(connection, **change)

    def audit(self, *, limit: int) -> list[dict[str, Any]]:
        query = select(audit.c.seq).order_by(audit.c.seq.desc()).limit(max(0, min(limit, _MAX_ROWS)))
        with self._access.reading() as connection:
            return chain.read_rows(connection, connection.scalars(query).all())
