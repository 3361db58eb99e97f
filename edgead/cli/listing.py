"""Commands whose help lists what is registered, and that take no empty words.

What is registered is looked up when help is asked for: every other start would wait for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

from edgead.errors import SettingsError

_EMPTY = re.compile(r"(--[\w-]+=)?")


def _filled(text: str) -> str:
    from edgead.runtime import RUNTIMES
    from edgead.serialization import language_names
    from edgead.sinks import SINKS
    from edgead.sorting.sort import SORTERS
    from edgead.sources import SOURCES
    from edgead.synthetic.makers import MAKERS, OWN
    from edgead.unlabelled.run import SCREENERS
    from edgead.workstation.methods.registry import METHODS

    lists = {
        "{detectors}": ", ".join(METHODS),
        "{runtimes}": ", ".join(RUNTIMES.all()),
        "{makers}": ", ".join((*OWN, *MAKERS)),
        "{sorters}": ", ".join(SORTERS),
        "{screeners}": ", ".join(SCREENERS),
        "{sources}": SOURCES.examples(),
        "{sinks}": SINKS.examples(),
        "{languages}": ", ".join(f"{code} ({name})" for code, name in language_names().items()),
    }
    for place, found in lists.items():
        text = text.replace(place, found)
    return text


class ListingCommand(TyperCommand):
    """A command in whose help {detectors}, {sinks} and the like stand for what there is.

    An empty word among its arguments is refused.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:  # typer has click within it, or beside it, by its version
        for parameter in self.params:
            if isinstance(parameter, (TyperArgument, TyperOption)) and parameter.help:
                parameter.help = _filled(parameter.help)
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for number, word in enumerate(args, 1):
            if _EMPTY.fullmatch(word):  # as a path it would be the working directory
                found = f"{word} has no value" if word else f"argument {number} is empty"
                raise SettingsError(f"{ctx.command_path}: {found}: is a variable of the shell unset?")
        return super().parse_args(ctx, args)


class ListingApp(typer.Typer):
    """An application whose commands are such."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        return super().command(name, **{"cls": ListingCommand, **settings})
