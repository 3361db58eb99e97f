"""Route of a camera's focus, for the person who adjusts its lens."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from edgead.images.focus import COLUMNS, ROWS
from edgead.line.web.answers import Answer
from edgead.line.web.dependencies import Camera, Daemon
from edgead.line.web.problems import problems

routes = APIRouter(prefix="/api", tags=["live"])


class MeasuredFocus(Answer):
    sharpness: Annotated[
        tuple[float, ...], Field(description="Variance of the Laplacian of each cell, row by row: higher is sharper.")
    ]
    saturated: Annotated[float, Field(ge=0, le=1, description="Share of overexposed pixels, with the highest value.")]
    across: Annotated[
        float, Field(description="Mean squared slope from left to right: motion blur along it lowers only this.")
    ]
    down: Annotated[float, Field(description="Mean squared slope from top to bottom.")]


class FocusAnswer(Answer):
    """Focus of the newest frame."""

    frame: str
    rows: int
    columns: int
    now: MeasuredFocus
    golden: Annotated[
        MeasuredFocus | None,
        Field(description="Medians of the model's golden images; null if none has the frame's size."),
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
    return FocusAnswer(
        frame=id,
        rows=ROWS,
        columns=COLUMNS,
        now=MeasuredFocus(**asdict(now)),
        golden=golden and MeasuredFocus(**asdict(golden)),
    )
