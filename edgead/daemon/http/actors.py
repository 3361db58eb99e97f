"""Who says so, and what: names, kinds and notes that stand in the audit."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"

By = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=_PRINTABLE),
    Field(description="Name of who does it, for the audit.", examples=["Anna"]),
]
Kind = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=_PRINTABLE),
    Field(description="What a kind of defect is shown as.", examples=["scratch"]),
]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500, pattern=_PRINTABLE)]


def named(by: str, address: str) -> str:
    """A person and where the request came from: the name is a claim, the address is not."""
    return f"{by} ({address})"
