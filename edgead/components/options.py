"""Options of components, and sections of the site file: strict models, and types of values with bounds."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer
from typing_extensions import Self

from edgead.components.uri import checked_host, origin, without_credentials
from edgead.errors import SettingsError

_NAME = r"^[a-z][a-z0-9_-]{0,31}$"

Name = Annotated[str, Field(pattern=_NAME, description="Lower-case letters, digits, - and _; begins with a letter.")]
# Bounded on both sides: a time that a clock, a socket or a thread cannot wait for would only fail later.
Seconds = Annotated[float, Field(ge=0.001, le=86_400)]
Port = Annotated[int, Field(ge=1, le=65535)]
Secretive = Annotated[str, PlainSerializer(without_credentials)]
Uri = Annotated[Secretive, Field(min_length=1, repr=False)]
"""A URI that may hold user name and password, which are never shown."""


class Section(BaseModel):
    """Named options of a component, or a section of the site file; unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def beside(self, folder: Path) -> Self:
        """Return a copy with each relative path, also those of nested sections, joined to a folder.

        A section that has paths inside texts overrides this.
        """
        return self.model_copy(update={name: _placed(getattr(self, name), folder) for name in type(self).model_fields})


class NoOptions(Section):
    """Options of a component that has none."""


def placed(path: str | Path, folder: Path) -> Path:
    """Join a path to a folder, and resolve any `..`, so that people can read the path in a report."""
    found = folder / path
    return found.resolve() if ".." in found.parts else found


def _placed(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return placed(value, folder)
    if isinstance(value, Section):
        return value.beside(folder)
    if type(value) is tuple:
        return tuple(_placed(item, folder) for item in value)
    if isinstance(value, dict):
        return {key: _placed(item, folder) for key, item in value.items()}
    return value


def option_names(options: type[Section]) -> dict[str, str]:
    """Map the names that users write (aliases) to the names of the model's fields."""
    return {field.alias or name: name for name, field in options.model_fields.items()}


def read_query(query: str, known: Collection[str]) -> dict[str, str]:
    """Split `a=1&b=2` into a dict of names and texts, as the options of a component take them.

    Raises SettingsError: a name is unknown; the message lists the known names.
    """
    values = dict(parse_qsl(query, keep_blank_values=True))
    for name in values:
        if name not in known:
            hint = f"known are {', '.join(sorted(known))}" if known else "it takes none"
            raise SettingsError(f"unknown option {name!r}; {hint}")
    return values


def is_loopback(host: str) -> bool:
    """Return whether a server on this host can be reached from this computer only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _of_a_host(url: str) -> str:
    """Refuse a URL whose host cannot be looked up; text that is not a URL passes, and its sink refuses it."""
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
