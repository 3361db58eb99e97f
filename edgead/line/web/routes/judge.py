"""Route that judges an image in the body of a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from edgead.errors import NotNowError, NoVerdictInTimeError
from edgead.images.files import ImageError, UnfitImageError
from edgead.line.site.status import Answer
from edgead.line.web.answers import VerdictAnswer
from edgead.line.web.contract import ServedPipeline
from edgead.line.web.dependencies import AskedPart, Pipeline
from edgead.line.web.problems import problems
from edgead.serialization import verdict_record
from edgead.types import Part

routes = APIRouter(prefix="/api/pipelines/{name}", tags=["control"])

WITHIN_S = 10.0
# Each takes memory before it is checked.
_MAX_AT_ONCE = 2
_ANY_BYTES, _BINARY = "application/octet-stream", {"schema": {"type": "string", "format": "binary"}}
IMAGE_BODY = {"requestBody": {"required": True, "content": {kind: _BINARY for kind in ("image/*", _ANY_BYTES)}}}


class OtherShape(Answer):
    """Sizes in pixels of an image and of the learnt images, if these have other proportions."""

    width: int
    height: int
    learnt_width: int
    learnt_height: int


class JudgedAnswer(VerdictAnswer):
    other_shape: Annotated[
        OtherShape | None, Field(description="Sizes, if the image was distorted by resizing: its verdict may be wrong.")
    ] = None
    learnt: Annotated[
        bool, Field(description="Whether the model has learnt this image: its score then says nothing about new parts.")
    ] = False


class Desk:
    """Limit of images that wait for a verdict at a time, for each pipeline."""

    def __init__(self) -> None:
        self._here: Counter[str] = Counter()

    @contextmanager
    def place(self, pipeline: str) -> Iterator[None]:
        if self._here[pipeline] >= _MAX_AT_ONCE:
            raise _not_now(f"{pipeline}: {_MAX_AT_ONCE} images are under way")
        self._here[pipeline] += 1
        try:
            yield
        finally:
            self._here[pipeline] -= 1


def check_image_type(request: Request) -> None:
    """Raise HTTPException if a body's type is not that of an image file, since another site's form could send it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        example = "`curl --data-binary @part.png -H 'Content-Type: image/png'`"
        raise HTTPException(415, f"the body is a form: send the file itself, {example}")
    if not kind.startswith("image/") and kind != _ANY_BYTES:
        raise HTTPException(415, f"the body is {kind or 'of no type'}: set Content-Type to image/... or {_ANY_BYTES}")


@routes.post("/judge", openapi_extra=IMAGE_BODY, responses=problems(404, 409, 413, 415, 503, 504))
async def judge(name: str, pipeline: Pipeline, part: AskedPart, request: Request) -> JudgedAnswer:
    """Judge the image file of the body, as the image of the named part; for pipelines whose camera is `request:`.

    The verdict is recorded and sent to sinks like that of every frame. 503: the image was not taken, send it again;
    504: it was taken, but has no verdict yet.
    """
    check_image_type(request)
    with request.app.state.desk.place(name):
        data = await request.body()
        try:
            return JudgedAnswer.model_validate(await run_in_threadpool(_judged, pipeline, data, part))
        except NotNowError as error:
            raise _not_now(str(error)) from None
        except NoVerdictInTimeError as error:
            raise HTTPException(504, str(error)) from None
        except UnfitImageError as error:
            raise HTTPException(422, str(error)) from None
        except ImageError as error:
            raise _unreadable(part, str(error)) from None


def _judged(pipeline: ServedPipeline, data: bytes, part: Part) -> dict[str, Any]:
    frame, verdict = pipeline.judge(data, part, WITHIN_S)
    found = {**verdict_record(frame, verdict), "learnt": pipeline.has_learnt(frame, data)}
    look = pipeline.squeezed_into(frame)
    if look is None:
        return found
    height, width = frame.image.shape[:2]
    shape = OtherShape(width=width, height=height, learnt_width=round(look.width), learnt_height=round(look.height))
    return {**found, "other_shape": shape}


def _unreadable(part: Part, reason: str) -> HTTPException:
    file = f"the file of part {part.serial}" if part.serial else "the body"
    return HTTPException(422, f"{file} cannot be read as an image: {reason}")


def _not_now(detail: str) -> HTTPException:
    return HTTPException(503, f"{detail}: send it again", {"Retry-After": "1"})
