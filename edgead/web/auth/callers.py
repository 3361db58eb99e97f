"""Identity of a caller, and checks of names, kinds and notes that stand in the audit."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import HTTPException
from pydantic import AfterValidator, Field, StringConstraints

from edgead.site.users import Role, User

_MAX_NAME = 64
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"
# What stands in parentheses is ours: no claim may look like it.
_PLAIN = str.maketrans("()", "[]")
_HOW = {"password": "signed in", "pin": "PIN at {panel}", "proxy": "proxy", "token": "token"}


def _claim(name: str) -> str:
    """Give a name as it is read: none of its letters looks like one of ours, or turns the line around."""
    name = unicodedata.normalize("NFKC", name).strip()
    if not name.isprintable() or len(name) > _MAX_NAME:
        raise ValueError(f"must be at most {_MAX_NAME} printable characters")
    return name


By = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=_MAX_NAME, pattern=_PRINTABLE),
    AfterValidator(_claim),
    Field(
        default="",
        description="Name of who does it, for the audit. Who is signed in by a name stands there whatever this says.",
        examples=["Anna"],
    ),
]
Kind = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=_PRINTABLE),
    Field(description="What a kind of defect is shown as.", examples=["scratch"]),
]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500, pattern=_PRINTABLE)]


@dataclass(frozen=True, slots=True)
class Who:
    """Whom a request was let in as."""

    role: Role
    way: Literal["open", "token", "password", "pin", "panel", "proxy"]
    name: str = ""
    """Of a person or a program; empty where nobody is known by name."""
    panel: str = ""
    account: User | None = None
    """What the file of users said at the sign-in; the session ends when it says something else."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, and from where."""

    who: Who
    address: str


def named(by: str, caller: Caller) -> str:
    """Name who makes a change, for the audit: the name that is signed in; where none is, the one that is claimed.

    A claim never looks like a name that is signed in.

    Raises
    ------
    HTTPException
        422: nobody is signed in by name, and no name is claimed.
    """
    who = caller.who
    if who.name:
        return f"{who.name} ({_HOW[who.way].format(panel=who.panel)}, {caller.address})"
    if who.panel:
        return f"{by.translate(_PLAIN) or 'somebody'} (panel {who.panel}, {caller.address})"
    if not by:
        raise HTTPException(422, "body.by: must not be empty: nobody is signed in by name")
    return f"{by.translate(_PLAIN)} ({caller.address})"
