"""FastAPI dependencies: the daemon, its cameras and pipelines by name, the caller and the caller's language."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, HTTPException, Path, Query, Request
from fastapi.dependencies.utils import get_flat_params
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from edgead.errors import suggestion
from edgead.line.web.auth.callers import Caller
from edgead.line.web.auth.guard import Guard, caller_of
from edgead.line.web.contract import Served, ServedCamera, ServedPipeline
from edgead.serialization import VerdictCounts, preferred_language, sentence
from edgead.types import MAX_PART_CHARACTERS, Part

NAME = r"^[a-z][a-z0-9_-]{0,31}$"
ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
IMAGE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Named = TypeVar("Named")
VerdictId = Annotated[str, Path(pattern=ID)]
ImageName = Annotated[str, Path(pattern=IMAGE)]


# Not plain functions: FastAPI would run each in a thread, and slow requests may hold all of these.
async def _daemon(request: Request) -> Served:
    return request.app.state.daemon


async def _guard(request: Request) -> Guard:
    return request.app.state.guard


async def _caller(request: Request) -> Caller:
    return caller_of(request)


async def known_query(request: Request) -> None:
    """Refuse keys of the query that the route does not have; `of` only makes the address of an image a new one."""
    known = {"of", *(field.alias for field in get_flat_params(request.scope["route"].dependant))}
    for key in request.query_params:
        if key not in known:
            raise HTTPException(422, f"query.{key}: unknown key{suggestion(key, known)}")


Daemon = Annotated[Served, Depends(_daemon)]
TheGuard = Annotated[Guard, Depends(_guard)]
ClientAddress = Annotated[Caller, Depends(_caller)]
"""Caller of a request, from whom `named` makes the author of a change."""


async def _camera(name: Annotated[str, Path(pattern=NAME)], daemon: Daemon) -> ServedCamera:
    return _known(name, daemon.cameras, "camera")


async def _pipeline(name: Annotated[str, Path(pattern=NAME)], daemon: Daemon) -> ServedPipeline:
    return _known(name, daemon.pipelines, "pipeline")


def _known(name: str, parts: Mapping[str, Named], kind: str) -> Named:
    if name not in parts:
        raise HTTPException(404, f"there is no {kind} {name}, known are {', '.join(parts)}")
    return parts[name]


Camera = Annotated[ServedCamera, Depends(_camera)]
Pipeline = Annotated[ServedPipeline, Depends(_pipeline)]


def must_be_printable(value: str) -> str:
    """Return a text unchanged; raise ValueError if it has control characters."""
    if not value.isprintable():
        raise ValueError("holds a character that cannot be printed")
    return value


Value = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_PART_CHARACTERS),
    AfterValidator(must_be_printable),
    Field(description="Value that names the part; empty if unknown.", examples=["A-0017"]),
]


class NamedPart(BaseModel):
    """Part that a request's body names; values that it does not give are empty."""

    model_config = ConfigDict(extra="forbid")

    serial: Value = ""
    batch: Value = ""
    recipe: Value = ""

    def part(self) -> Part:
        return Part(self.serial, self.batch, self.recipe)


# Not a plain function: FastAPI would run it in a thread, and slow requests may hold all of these.
async def _asked_part(serial: Value = "", batch: Value = "", recipe: Value = "") -> Part:
    return Part(serial, batch, recipe)


AskedPart = Annotated[Part, Depends(_asked_part)]
"""Part whose values are in the query."""


async def _language(
    language: Annotated[
        str, Query(max_length=100, description="Language of texts, such as de; by default the browser's.")
    ] = "",
    accept_language: Annotated[str, Header()] = "",
) -> str:
    return preferred_language(language or accept_language)


Language = Annotated[str, Depends(_language)]


def words_of(row: Mapping[str, Any], daemon: Served, language: str) -> str | None:
    """Describe a record of the evidence store in a sentence, None if it is ok; today's records with today's counts."""
    if row["decision"] == "ok":
        return None
    # The local day of the people here, not that of UTC.
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    counts = None
    if datetime.fromisoformat(row["captured_at"]) >= midnight:
        pipeline, decision = row["pipeline"], row["decision"]
        kinds = daemon.store.kinds.counts(pipeline, since=midnight, decision=decision)["kinds"]
        by_kind = {one["kind"]: one["count"] for one in kinds}
        counts = VerdictCounts(daemon.store.counts(pipeline=pipeline, since=midnight), by_kind)
    return sentence(row, language, counts)
