"""Route of a camera's focus, for the person who adjusts its lens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from edgead.images.focus import COLUMNS, ROWS, Focus
from edgead.line.site.status import Answer
from edgead.line.web.dependencies import Camera, Daemon
from edgead.line.web.problems import problems

routes = APIRouter(prefix="/api", tags=["live"])


class FocusAnswer(Answer):
    """Focus of the newest frame."""

    frame: str
    rows: int
    columns: int
    now: Focus
    golden: Annotated[
        Focus | None, Field(description="Medians of the model's golden images; null if none has the frame's size.")
    ]


@routes.get("/cameras/{name}/focus", responses=problems(404))
def camera_focus(name: str, camera: Camera, daemon: Daemon, request: Request) -> FocusAnswer | None:
    """Measure the focus of a camera's newest frame, at most twice a second; null if there is no frame yet."""
    frame = camera.latest()
    if frame is None:
        return None
    meter = request.app.state.focus
    id, now = meter.measure(name, frame)
    golden = meter.golden(name, frame.image.shape, daemon)
    return FocusAnswer(frame=id, rows=ROWS, columns=COLUMNS, now=now, golden=golden)
