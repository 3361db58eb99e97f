"""Route that judges an image in the body of a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import APIRouter, HTTPException, Request
from starlette.concurrency import run_in_threadpool

from edgead.errors import NotNowError, NoVerdictInTimeError
from edgead.images.files import ImageError
from edgead.serialization import verdict_record
from edgead.web.answers import VerdictAnswer
from edgead.web.dependencies import AskedPart, Pipeline
from edgead.web.problems import problems

routes = APIRouter(prefix="/api/pipelines/{name}", tags=["control"])

WITHIN_S = 10.0
# Each takes memory before anything is known of it.
_MAX_AT_ONCE = 2
_STARTS = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8"}
_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_BODY = {"requestBody": {"required": True, "content": {kind: _IMAGE for kind in _STARTS}}}


class Desk:
    """Where images are handed in: not more at once, for each pipeline, than there is room for."""

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


def _wrong_type(kind: str) -> str:
    known = " or ".join(_STARTS)
    if kind == "multipart/form-data":
        return "the body is a form: send the file itself, `curl --data-binary @part.png -H 'Content-Type: image/png'`"
    return f"the body is {kind or 'of no type'}: set Content-Type to {known}"


@routes.post("/judge", openapi_extra=_BODY, responses=problems(404, 409, 413, 415, 503, 504))
async def judge(name: str, pipeline: Pipeline, part: AskedPart, request: Request) -> VerdictAnswer:
    """Judge the image of the body, a PNG or JPEG file, as that of a part; for pipelines whose camera is `request:`.

    It goes the way of every frame: into the record, the evidence and the sinks. 503: it was not taken, send it again;
    504: it was taken, and its verdict is not there yet.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _STARTS:
        raise HTTPException(415, _wrong_type(kind))
    with request.app.state.desk.place(name):
        data = await request.body()
        if not data.startswith(_STARTS[kind]):
            raise HTTPException(422, f"the body is not {kind}, as its Content-Type says")
        try:
            frame, verdict = await run_in_threadpool(pipeline.judge, data, part, WITHIN_S)
        except NotNowError as error:
            raise _not_now(str(error)) from None
        except NoVerdictInTimeError as error:
            raise HTTPException(504, str(error)) from None
        except ImageError as error:
            raise HTTPException(422, str(error)) from None
    return VerdictAnswer.model_validate(verdict_record(frame, verdict))


def _not_now(detail: str) -> HTTPException:
    return HTTPException(503, f"{detail}: send it again", {"Retry-After": "1"})
