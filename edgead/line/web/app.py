"""FastAPI application: probes, metrics, the API and the operator's page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from edgead.line.site.schema import HttpSection
from edgead.line.web.auth.guard import Guard
from edgead.line.web.contract import Served
from edgead.line.web.dependencies import known_query
from edgead.line.web.events import VerdictEvents
from edgead.line.web.focus import FocusMeter
from edgead.line.web.live_images import LiveImages
from edgead.line.web.load_limits import ConcurrencyLimit, OneAtATime
from edgead.line.web.metrics import build_registry
from edgead.line.web.middleware import AccessGate
from edgead.line.web.problems import Problem, answer_with_problems, problems
from edgead.line.web.routes import (
    audit,
    commission,
    control,
    focus,
    follow,
    judge,
    kinds,
    lessons,
    live,
    marks,
    notices,
    parts,
    probes,
    production,
    sign_in,
    static_files,
    status,
    verdicts,
)
from edgead.version import __version__

# The gate checks it; here it only serves the OpenAPI.
_BEARER = Depends(HTTPBearer(auto_error=False, description="The token of the site file, where it has one."))


def build_app(daemon: Served) -> FastAPI:
    """Build the application that shows and serves a daemon.

    Parameters
    ----------
    daemon : Served
        Daemon to show; its section `site.http` says who may sign in.
    """
    section = daemon.site.http or HttpSection()
    app = FastAPI(
        title="edgead",
        version=__version__,
        summary="Verdicts, evidence, states and thresholds of one device",
        lifespan=_alive,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere; this one's is /docs
        redoc_url=None,
        openapi_url="/openapi.json",
        generate_unique_id_function=_operation_id,
        responses=problems(400, 401, 403, 413, 421, 422, 429, 503),
    )
    app.state.daemon = daemon
    app.state.guard = Guard(section)
    app.state.hashing = CapacityLimiter(1)
    app.state.events = VerdictEvents(daemon.subscribe_verdicts)
    app.state.live = LiveImages()
    app.state.focus = FocusMeter()
    app.state.desk = judge.Desk()
    app.state.downloads = OneAtATime()
    app.state.registry = build_registry(daemon)
    app.state.started_s = time.monotonic()
    app.add_middleware(ConcurrencyLimit)
    app.add_middleware(AccessGate, guard=app.state.guard)  # outermost: refused requests take nobody's place
    answer_with_problems(app)
    app.include_router(probes.routes)
    for part in (
        sign_in,
        status,
        live,
        focus,
        verdicts,
        marks,
        parts,
        kinds,
        notices,
        lessons,
        control,
        judge,
        audit,
        follow,
        production,
        commission,
    ):
        app.include_router(part.routes, dependencies=[_BEARER, Depends(known_query)])
    static_files.add(app)
    _describe_problems(app)
    return app


def _operation_id(route: APIRoute) -> str:
    """Name a route for generated clients by its group and its function, like `commission_learn`."""
    group = route.endpoint.__module__.rpartition(".")[2]
    return group if route.name == group else f"{group}_{route.name}"


@asynccontextmanager
async def _alive(app: FastAPI) -> AsyncIterator[None]:
    try:
        yield
    finally:
        app.state.events.close()


def _describe_problems(app: FastAPI) -> None:
    """Add the schema of a problem to the OpenAPI: FastAPI lists only schemas of plain JSON by itself."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        made = describe()  # the same at each call
        made["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        return made

    app.openapi = described  # type: ignore[method-assign]
