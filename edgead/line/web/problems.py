"""Error answers as JSON of RFC 9457: without tracebacks, and without request data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from edgead.errors import EdgeadError, NotNowError, tell_invalid
from edgead.files.disk import FULL


class Problem(BaseModel):
    """Error answer: text of what went wrong, and of what to do if that is known."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Build the answer to a request that failed."""
    content = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail).model_dump()
    body = json.dumps(content, ensure_ascii=True)  # a lone surrogate in a detail has no UTF-8
    return Response(body, status, dict(headers or {}), media_type="application/problem+json")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the error statuses that an endpoint may answer."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def answer_with_problems(app: FastAPI) -> None:
    """Make an app answer every error with a problem."""

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, error.detail, error.headers)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem(422, tell_invalid(error.errors()))

    async def on_refused(request: Request, error: Exception) -> Response:
        return problem(409, str(error))

    async def on_not_now(request: Request, error: Exception) -> Response:
        return problem(503, str(error), {"Retry-After": "5"})

    async def on_unwritten(request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)
        if error.errno not in FULL:
            raise error
        where = f"{error.filename}: " if error.filename else ""
        return problem(503, f"{where}{error.strerror}: free some space on the disk, then try again")

    async def on_fault(request: Request, error: Exception) -> Response:
        return problem(500, "edgead failed on this request; its log says why")

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(EdgeadError, on_refused)
    app.add_exception_handler(NotNowError, on_not_now)
    app.add_exception_handler(OSError, on_unwritten)
    app.add_exception_handler(Exception, on_fault)
