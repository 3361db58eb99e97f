"""Routes of the audit: the list of changes, and the check of their hash chain."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from edgead.line.site.status import Answer
from edgead.line.web.dependencies import Daemon

routes = APIRouter(prefix="/api", tags=["audit"])


class AuditAnswer(Answer):
    seq: int
    at: Annotated[datetime | None, Field(description="Empty for a damaged row.")]
    by: str
    action: str
    pipeline: str
    before: Any = None
    after: Any = None
    hash: Annotated[str, Field(description="SHA-256 of the row and of the previous row's hash.")]


class ChainAnswer(Answer):
    whole: bool
    rows: Annotated[int, Field(description="Number of valid rows from the start.")]
    head: Annotated[str, Field(description="Hash of the last valid row.")]
    problem: Annotated[str | None, Field(description="Problem of the first row that is not valid.")]


@routes.get("/audit")
def audit(daemon: Daemon, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[AuditAnswer]:
    """List people's changes, newest first."""
    return [AuditAnswer.model_validate({**row, "at": row["at"] or None}) for row in daemon.store.audit(limit=limit)]


@routes.get("/audit/chain")
def audit_chain(daemon: Daemon) -> ChainAnswer:
    """Check the hash chain of all changes; the answer may be a minute old, unless the last row is gone since."""
    found = daemon.store.audit_chain.check()
    return ChainAnswer(whole=found.problem is None, rows=found.rows, head=found.head.hash, problem=found.problem)
