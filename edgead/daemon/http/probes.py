"""For the machines that watch this one: is it alive, is it in service, what does it count."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from edgead.daemon.http.served import Daemon

routes = APIRouter(tags=["probes"])


class Alive(BaseModel):
    alive: bool


class Ready(BaseModel):
    ready: bool
    waiting_for: list[str]


@routes.get("/healthz")
def healthz() -> Alive:
    """Answer as long as the process does; needs no token."""
    return Alive(alive=True)


@routes.get("/readyz", responses={503: {"model": Ready, "description": "Some pipeline is not in service."}})
def readyz(daemon: Daemon, response: Response) -> Ready:
    """Tell whether every pipeline is in service; needs no token."""
    waiting_for = [name for name, pipeline in list(daemon.pipelines.items()) if pipeline.status().state != "running"]
    response.status_code = 503 if waiting_for else 200
    return Ready(ready=not waiting_for, waiting_for=waiting_for)


@routes.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request, accept: Annotated[str, Header()] = "") -> Response:
    """Everything that is counted, for Prometheus."""
    encode, content_type = choose_encoder(accept)
    return Response(encode(request.app.state.registry), headers={"Content-Type": content_type})
