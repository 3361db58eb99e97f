"""Sinks named by URIs, for `edgead stream --sink`, and for site files as `kind: uri`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from edgead.components.options import Uri
from edgead.components.uri import without_credentials
from edgead.errors import EdgeadError
from edgead.process.installation import comes_with
from edgead.sinks.contract import BaseSink, SinkError
from edgead.sinks.options import SinkOptions
from edgead.sinks.registry import SINKS, SinkComponent, register


class UriOptions(SinkOptions):
    """Any sink, named by its URI, such as `jsonl:FILE` or `images:FOLDER?only=reject`."""

    kind: Literal["uri"]
    uri: Annotated[Uri, Field(description="URI of the sink.")]

    @field_validator("uri")
    @classmethod
    def _is_known(cls, uri: str) -> str:
        read_uri(uri)
        return uri

    def beside(self, folder: Path) -> SinkOptions:  # type: ignore[override]  # the options that it stands for
        """Return the options that the URI stands for, with relative paths in it joined to a folder."""
        named = read_uri(self.uri)[1].beside(folder)
        return named.model_copy(update={"required": self.required, "tolerated_s": self.tolerated_s})

    @property
    def takes_notices(self) -> bool:
        return read_uri(self.uri)[1].takes_notices

    @property
    def most_waiting(self) -> int:
        return read_uri(self.uri)[1].most_waiting


def read_uri(uri: str) -> tuple[SinkComponent, SinkOptions]:
    """Find the sink that a URI names, and read its options.

    Raises SinkError: there is no such sink, or an option does not fit; no credentials are in the message.
    """
    scheme, colon, _ = uri.partition(":")
    component = SINKS.of_scheme(scheme) if colon else None
    shown = without_credentials(uri)
    if component is None or component.read_uri is None:
        missing = comes_with("edgead.sinks", scheme) if component is None else None
        raise SinkError(f"{shown}: {missing or f'unknown sink; known are {SINKS.examples()}'}")
    try:
        values = component.read_uri(uri)
    except EdgeadError as error:
        raise SinkError(f"{shown}: {error}") from None
    try:
        return component, component.read({"kind": component.name, **values}, shown)
    except EdgeadError as error:
        raise SinkError(str(error)) from None


def _open(name: str, options: UriOptions) -> BaseSink:
    component, named = read_uri(options.uri)
    return component.open(component.name, named)


register("uri", UriOptions, _open)
