"""Routes of the live view: the newest images, and verdicts as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse

from edgead.images.overlay import draw_heat
from edgead.line.web.dependencies import Camera, Pipeline
from edgead.line.web.events import TooManyListeners
from edgead.line.web.live_images import View
from edgead.line.web.problems import problems
from edgead.types import Frame

routes = APIRouter(prefix="/api", tags=["live"])
JPEG = {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".tiff": "image/tiff"}
_NO_FRAME = {"description": "There is no frame yet."}
_NOT_MODIFIED = {"description": "The image that If-None-Match names is still the newest."}
_EVENTS = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}

Width = Annotated[int, Query(ge=16, le=4096, description="Largest width of the image in pixels.")]
IfNoneMatch = Annotated[str, Header()]


def image_file(path: Path | None, missing: str, headers: dict[str, str] | None = None) -> Response:
    """Answer with an image's file, or with 404 and the text `missing`, also if the file goes meanwhile."""
    try:
        if path is not None:
            return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=headers)
    except FileNotFoundError:
        pass
    raise HTTPException(404, missing)


@routes.get(
    "/cameras/{name}/image",
    response_class=Response,
    responses={200: JPEG, 204: _NO_FRAME, 304: _NOT_MODIFIED, **problems(404)},
)
def camera_image(
    name: str, camera: Camera, request: Request, width: Width = 960, if_none_match: IfNoneMatch = ""
) -> Response:
    """Return the newest frame of a camera, even if no pipeline judges it."""
    frame = camera.latest()
    if frame is None:
        return Response(status_code=204)
    jpeg = request.app.state.live.get(View("camera", name, width), _tag(frame), lambda: frame.image)
    return _answer(jpeg.tag, jpeg.data, if_none_match)


@routes.get(
    "/pipelines/{name}/image",
    response_class=Response,
    responses={200: JPEG, 204: _NO_FRAME, 304: _NOT_MODIFIED, **problems(404)},
)
def pipeline_image(
    name: str,
    pipeline: Pipeline,
    request: Request,
    overlay: bool = True,
    width: Width = 960,
    if_none_match: IfNoneMatch = "",
) -> Response:
    """Return the frame judged last, with or without its heat map."""
    latest = pipeline.latest()
    if latest is None:
        return Response(status_code=204)
    frame, verdict = latest
    view = View("pipeline", name, width, overlay)
    draw = (lambda: draw_heat(frame.image, verdict)) if overlay else (lambda: frame.image)
    jpeg = request.app.state.live.get(view, _tag(frame), draw)
    return _answer(jpeg.tag, jpeg.data, if_none_match)


@routes.get("/events", response_class=StreamingResponse, responses={200: _EVENTS, **problems(503)})
async def events(request: Request) -> StreamingResponse:
    """Stream verdicts, and notices of alarms and faults, as server-sent events."""
    try:
        stream = request.app.state.events.listen()
    except TooManyListeners as error:
        raise HTTPException(503, str(error)) from None
    guarded = _while_signed_in(stream, request)
    return StreamingResponse(guarded, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _while_signed_in(stream: AsyncGenerator[str, None], request: Request) -> AsyncIterator[str]:
    """End a stream when its session ends."""
    async with aclosing(stream):
        async for event in stream:
            if not request.app.state.guard.holds(request):
                return
            yield event


def _tag(frame: Frame) -> str:
    return frame.id or f"{frame.number}-{frame.captured_ns}"


def _answer(tag: str, data: bytes, if_none_match: str) -> Response:
    headers = {"ETag": f'"{tag}"', "X-Frame-Id": tag}
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)
