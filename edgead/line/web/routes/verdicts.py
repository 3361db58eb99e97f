"""Routes of past verdicts: their images, and marks by people."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import AwareDatetime, BaseModel, Field

from edgead.line.evidence.records import Asked
from edgead.line.web.answers import Done, VerdictDetail, VerdictPage
from edgead.line.web.auth.callers import By, Kind, Note, named
from edgead.line.web.dependencies import (
    ID,
    NAME,
    AskedPart,
    ClientAddress,
    Daemon,
    ImageName,
    Language,
    Value,
    VerdictId,
    words_of,
)
from edgead.line.web.problems import problems
from edgead.line.web.routes.live import image_file
from edgead.types import Decision, Opinion

routes = APIRouter(prefix="/api", tags=["verdicts"])
OfPipeline = Annotated[str | None, Query(pattern=NAME, description="Pipeline, if several judged the same frame.")]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_IMAGE = {"content": {"image/jpeg": _BINARY, "image/png": _BINARY}}


class Mark(BaseModel):
    by: By
    note: Note = ""
    pipeline: Annotated[str | None, Field(pattern=NAME)] = None


@routes.get("/verdicts")
def list_verdicts(
    daemon: Daemon,
    part: AskedPart,
    pipeline: Annotated[str | None, Query(pattern=NAME)] = None,
    search: Annotated[
        Value, Query(description="Parts whose serial number, file or id begins with this, or of new ones holds it.")
    ] = "",
    mark: Annotated[Opinion | None, Query(description="Only verdicts on parts that a person gave this mark.")] = None,
    decision: Decision | None = None,
    kind: Annotated[Kind | None, Query(description="Only this kind, by its shown name.")] = None,
    before_id: Annotated[str | None, Query(pattern=ID)] = None,
    until: Annotated[AwareDatetime | None, Query(description="Only verdicts given at or before this time.")] = None,
    at_least: Annotated[
        float | None, Query(ge=-(10**9), le=10**9, description="Only scores of at least this, where 100 was the limit.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> VerdictPage:
    """List verdicts, newest first; with values of a part, only verdicts on parts with these values."""
    which = Asked(pipeline=pipeline, decision=decision, kind=kind, part=part, search=search, mark=mark)
    which |= {"before_id": before_id, "until": until, "at_least": at_least}
    rows = daemon.store.verdicts(**which, limit=limit)
    last = rows[-1]["id"] if len(rows) == limit else None
    return VerdictPage.model_validate({"verdicts": rows, "next_before_id": last})


@routes.get("/verdicts/{verdict_id}", responses=problems(404))
def one_verdict(
    verdict_id: VerdictId, daemon: Daemon, language: Language, pipeline: OfPipeline = None
) -> VerdictDetail:
    """Report one verdict, with a sentence in words and the names of its images."""
    row = daemon.store.verdict(verdict_id, pipeline=pipeline)
    if row is None:
        raise HTTPException(404, f"there is no verdict {verdict_id}")
    return VerdictDetail.model_validate({**row, "words": words_of(row, daemon, language)})


@routes.get(
    "/verdicts/{verdict_id}/images/{image_name}", response_class=Response, responses={200: _IMAGE, **problems(404)}
)
def image(verdict_id: VerdictId, image_name: ImageName, daemon: Daemon, pipeline: OfPipeline = None) -> Response:
    """Return one image of a verdict."""
    path = daemon.store.image(verdict_id, image_name, pipeline=pipeline)
    kept = {"Cache-Control": "private, max-age=3600"}
    return image_file(path, f"there is no image {image_name} of {verdict_id}", headers=kept)


@routes.post("/verdicts/{verdict_id}/false-reject", responses=problems(404, 409))
def mark_false_reject(verdict_id: VerdictId, mark: Mark, daemon: Daemon, address: ClientAddress) -> Done:
    """Mark a rejected or reviewed part as good; audited."""
    if daemon.store.verdict(verdict_id, pipeline=mark.pipeline) is None:
        raise HTTPException(404, f"there is no verdict {verdict_id}")
    by = named(mark.by, address)
    daemon.store.mark_false_reject(verdict_id, by=by, note=mark.note, pipeline=mark.pipeline)
    return Done(done="marked as a false reject")
