"""Routes for monitoring: liveness, readiness, metrics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, Field

from edgead.line.web.contract import failing_sinks, pipelines_waited_for
from edgead.line.web.dependencies import Daemon

routes = APIRouter(tags=["probes"])


class Alive(BaseModel):
    alive: bool


class Ready(BaseModel):
    ready: bool
    waiting_for: Annotated[list[str], Field(description="Pipelines that are not in service.")]
    failing_sinks: Annotated[dict[str, str], Field(description="Required sinks that fail; /api/status says more.")]


# Both run on the event loop: requests that wait for a model may hold all of the server's threads.
@routes.get("/healthz")
async def healthz() -> Alive:
    """Answer as long as the process runs; needs no token."""
    return Alive(alive=True)


@routes.get("/readyz", responses={503: {"model": Ready, "description": "A pipeline or a required sink does not work."}})
async def readyz(daemon: Daemon, response: Response) -> Ready:
    """Report whether every pipeline is in service and every required sink works; needs no token."""
    waiting_for, failing = pipelines_waited_for(daemon), failing_sinks(daemon)
    ready = not waiting_for and not failing
    response.status_code = 200 if ready else 503
    return Ready(ready=ready, waiting_for=waiting_for, failing_sinks=failing)


@routes.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
)
def metrics(request: Request, accept: Annotated[str, Header()] = "") -> Response:
    """Return all metrics, for Prometheus."""
    encode, content_type = choose_encoder(accept)
    return Response(encode(request.app.state.registry), headers={"Content-Type": content_type})
