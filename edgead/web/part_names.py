"""Serial, batch and recipe of a part, as requests give them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from edgead.types import MAX_PART_CHARACTERS, Part


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds a character that cannot be printed")
    return value


Value = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_PART_CHARACTERS),
    AfterValidator(_printable),
    Field(description="Of the part; empty where nobody says so.", examples=["A-0017"]),
]


class NamedPart(BaseModel):
    """A part, as far as somebody says which it is."""

    model_config = ConfigDict(extra="forbid")

    serial: Value = ""
    batch: Value = ""
    recipe: Value = ""

    def part(self) -> Part:
        return Part(self.serial, self.batch, self.recipe)


# Not a plain function: FastAPI would call it in one of the threads that slow requests may hold all of.
async def _asked_part(serial: Value = "", batch: Value = "", recipe: Value = "") -> Part:
    return Part(serial, batch, recipe)


AskedPart = Annotated[Part, Depends(_asked_part)]
"""A part whose values stand in the query."""
