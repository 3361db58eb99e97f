"""The kinds of values that a site file may hold, each with its bounds."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainSerializer

from edgead.uri import checked_host, origin, without_credentials

_NAME = r"^[a-z][a-z0-9_-]{0,31}$"

Name = Annotated[str, Field(pattern=_NAME, description="Lower-case letters, digits, - and _; begins with a letter.")]
# Bounded on both sides: what a clock, a socket or a thread cannot wait for would only fail later.
Seconds = Annotated[float, Field(ge=0.001, le=86_400)]
Port = Annotated[int, Field(ge=1, le=65535)]
Secretive = Annotated[str, PlainSerializer(without_credentials)]
Uri = Annotated[Secretive, Field(min_length=1, repr=False)]
"""A URI that may hold user name and password, which are never shown."""


def _of_a_host(url: str) -> str:
    """Refuse a URL whose host cannot be looked up; one that is no URL its sink refuses."""
    if not url.isprintable():
        raise ValueError("holds a control character")
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return url
    checked_host(host or "")
    return url


Host = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(checked_host)]
WebhookUrl = Annotated[str, PlainSerializer(origin), Field(min_length=1, repr=False), AfterValidator(_of_a_host)]
"""Shown by its origin alone: the path may be the secret, as it is with the hooks of chat services."""
