"""FastAPI dependencies: the daemon that endpoints serve, and the pipeline or part that a path names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

from fastapi import Depends, HTTPException, Path, Request

from edgead.web.auth.callers import Caller
from edgead.web.auth.guard import Guard, caller_of
from edgead.web.contract import Served, ServedCamera, ServedPipeline

NAME = r"^[a-z][a-z0-9_-]{0,31}$"
ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
IMAGE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Part = TypeVar("Part")
VerdictId = Annotated[str, Path(pattern=ID)]
ImageName = Annotated[str, Path(pattern=IMAGE)]


# Not plain functions: FastAPI would call each in one of the threads that slow requests may hold all of.
async def _daemon(request: Request) -> Served:
    return request.app.state.daemon


async def _guard(request: Request) -> Guard:
    return request.app.state.guard


async def _caller(request: Request) -> Caller:
    return caller_of(request)


Daemon = Annotated[Served, Depends(_daemon)]
TheGuard = Annotated[Guard, Depends(_guard)]
ClientAddress = Annotated[Caller, Depends(_caller)]
"""Who asks, and from where: what `named` makes an entry of the audit of."""


async def _camera(name: Annotated[str, Path(pattern=NAME)], daemon: Daemon) -> ServedCamera:
    return _known(name, daemon.cameras, "camera")


async def _pipeline(name: Annotated[str, Path(pattern=NAME)], daemon: Daemon) -> ServedPipeline:
    return _known(name, daemon.pipelines, "pipeline")


def _known(name: str, parts: Mapping[str, Part], kind: str) -> Part:
    if name not in parts:
        raise HTTPException(404, f"there is no {kind} {name}, known are {', '.join(parts)}")
    return parts[name]


Camera = Annotated[ServedCamera, Depends(_camera)]
Pipeline = Annotated[ServedPipeline, Depends(_pipeline)]
