"""Routes of parts that several pipelines judge together: their counts, and their verdicts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from fastapi import Path as InPath

from edgead.line.web.answers import PartAnswer, PartVerdictPage
from edgead.line.web.dependencies import ID, NAME, Daemon
from edgead.line.web.problems import problems

routes = APIRouter(prefix="/api/parts", tags=["parts"])


@routes.get("")
def list_parts(daemon: Daemon) -> list[PartAnswer]:
    """List the parts that several pipelines judge together, with their counts."""
    return [PartAnswer.model_validate(parts.status()) for parts in list(daemon.parts.values())]


@routes.get("/{name}/verdicts", responses=problems(404))
def list_part_verdicts(
    name: Annotated[str, InPath(pattern=NAME)],
    daemon: Daemon,
    serial: Annotated[str | None, Query(max_length=255, description="Only parts with this serial number.")] = None,
    before_id: Annotated[str | None, Query(pattern=ID)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> PartVerdictPage:
    """List the verdicts on the parts of a name, newest first, with their views."""
    if name not in daemon.parts:
        raise HTTPException(404, f"there is no part {name}, known are {', '.join(daemon.parts) or 'none'}")
    rows = daemon.store.parts.newest(name, serial=serial, before_id=before_id, limit=limit)
    last = rows[-1]["id"] if len(rows) == limit else None
    return PartVerdictPage.model_validate({"verdicts": rows, "next_before_id": last})
