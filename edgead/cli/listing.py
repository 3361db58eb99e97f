"""Help that lists what is registered. It is looked up when help is asked for: every other start would wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption


def _filled(text: str) -> str:
    from edgead.methods.registry import METHODS
    from edgead.runtime import RUNTIMES
    from edgead.sinks import SINKS
    from edgead.sources import SOURCES

    lists = {
        "{detectors}": ", ".join(METHODS),
        "{runtimes}": ", ".join(RUNTIMES.all()),
        "{sources}": SOURCES.examples(),
        "{sinks}": SINKS.examples(),
    }
    for place, found in lists.items():
        text = text.replace(place, found)
    return text


class ListingCommand(TyperCommand):
    """A command in whose help {detectors}, {runtimes}, {sources} and {sinks} stand for what there is."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # typer has click within it, or beside it, by its version
        for parameter in self.params:
            if isinstance(parameter, (TyperArgument, TyperOption)) and parameter.help:
                parameter.help = _filled(parameter.help)
        super().format_help(ctx, formatter)


class ListingApp(typer.Typer):
    """An application whose commands are such."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        return super().command(name, **{"cls": ListingCommand, **settings})
