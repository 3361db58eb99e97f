"""Routes of marks by which a person calls a part good or bad, and of the newest frames to look at."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field

from edgead.images.pairs import shown_of
from edgead.line.web.answers import Done
from edgead.line.web.auth.callers import By, Note, named
from edgead.line.web.dependencies import NAME, ClientAddress, Daemon, VerdictId
from edgead.line.web.live_images import View
from edgead.line.web.problems import problems
from edgead.line.web.routes.live import JPEG, Width
from edgead.types import Opinion

routes = APIRouter(prefix="/api/verdicts/{verdict_id}", tags=["marks"])


class Marking(BaseModel):
    verdict: Annotated[Opinion | None, Field(description="null takes the mark back.")]
    by: By
    note: Note = ""
    pipeline: Annotated[str | None, Field(pattern=NAME)] = None


class MarkDone(Done):
    lossless: Annotated[bool, Field(description="Whether the frame is kept without loss.")]


@routes.post("/mark", responses=problems(404, 409))
def mark(verdict_id: VerdictId, given: Marking, daemon: Daemon, address: ClientAddress) -> MarkDone:
    """Mark a part as good or bad, whatever the verdict, and keep its frame without loss; audited."""
    if daemon.store.verdict(verdict_id, pipeline=given.pipeline) is None:
        raise HTTPException(404, f"there is no verdict {verdict_id}")
    by, marks = named(given.by, address), daemon.store.marks
    if given.verdict is None:
        marks.take_back(verdict_id, by=by, pipeline=given.pipeline)
        return MarkDone(done="the mark is taken back", lossless=False)
    lossless = marks.mark(verdict_id, given.verdict, by=by, note=given.note, pipeline=given.pipeline)
    kept = "its frame is kept without loss" if lossless else "its frame is no longer there to be kept without loss"
    return MarkDone(done=f"marked as {given.verdict}; {kept}", lossless=lossless)


@routes.get("/recent", response_class=Response, responses={200: JPEG, **problems(404)})
def recent(verdict_id: VerdictId, daemon: Daemon, request: Request, width: Width = 960) -> Response:
    """Return the frame of one of the newest parts from the memory, even if no image of it was kept."""
    image = daemon.store.recent.find(verdict_id)
    if image is None:
        raise HTTPException(404, f"the frame of {verdict_id} is not held any longer")
    jpeg = request.app.state.live.get(View("recent", verdict_id, width), verdict_id, lambda: shown_of(image))
    return Response(jpeg.data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})
