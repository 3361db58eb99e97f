"""Routes of pipelines whose model comes from a registry: their state, and a retry after a refusal."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException
from fastapi import Path as InPath

from edgead.line.site.status import FollowStatus
from edgead.line.web.auth.callers import named
from edgead.line.web.contract import ServedFollower
from edgead.line.web.dependencies import NAME, ClientAddress, Daemon
from edgead.line.web.problems import problems
from edgead.line.web.routes.control import Person

routes = APIRouter(prefix="/api/pipelines/{name}/follow", tags=["fleet"], responses=problems(404))


class FollowAnswer(FollowStatus):
    """State of the follower of a pipeline."""


@routes.get("")
def follow_status(name: Annotated[str, InPath(pattern=NAME)], daemon: Daemon) -> FollowAnswer:
    """Report the tag that a pipeline follows, its digest, the digest in service, and why the two may differ."""
    return FollowAnswer.model_validate(_follower(name, daemon).status)


@routes.post("")
def follow_again(
    name: Annotated[str, InPath(pattern=NAME)], given: Person, daemon: Daemon, address: ClientAddress
) -> FollowAnswer:
    """Let a pipeline try its tag's model again, even if a person went back from it or the device refused it."""
    follower = _follower(name, daemon)
    follower.follow_again(by=named(given.by, address))
    return FollowAnswer.model_validate(follower.status)


def _follower(name: str, daemon: Daemon) -> ServedFollower:
    follower = daemon.followers.get(name)
    if follower is None:
        raise HTTPException(404, f"{name} follows no tag, `follow` of the site file names one")
    return follower
