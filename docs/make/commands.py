"""Reference of the command line, generated from the commands; plug-ins in plugins/ need not be installed."""

from __future__ import annotations

import inspect
import io
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from docs.make.markdown import code, table
from edgead.cli import app
from edgead.cli.verbs import GROUP
from edgead.process.installation import of_plugins

PREFIX = "edgead"
PLUGINS = Path(__file__).parents[2] / "plugins"
_KINDS: dict[Any, str] = {Path: "path", str: "text", int: "whole number", float: "number", bool: ""}


@cache
def commands() -> dict[str, Any]:
    """Return every verb by its name (of a group: both words), with parameters and help as in `--help`."""
    group: Any = typer.main.get_command(app)
    found = dict(_commands({verb: group.load(verb) for verb in group.commands}))
    for place, module in _modules_of_plugins():
        sys.path.insert(0, str(place))
        import_module(module)
        sys.path.remove(str(place))
    registered = typer.main.get_command(app).imported  # type: ignore[attr-defined]
    found |= _commands({verb: registered[verb] for verb in of_plugins(GROUP)})
    for name, command in found.items():
        with redirect_stdout(io.StringIO()):
            command.get_help(_context(command, f"{PREFIX} {name}"))
    return found


def _commands(verbs: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in verbs.items():
        if hasattr(command, "commands"):
            yield from _commands(command.commands, f"{name} ")
        else:
            yield before + name, command


def _modules_of_plugins() -> Iterator[tuple[Path, str]]:
    for project in sorted(PLUGINS.glob("*/pyproject.toml")):
        section = project.read_text(encoding="utf-8").partition(f'"{GROUP}"]\n')[2].partition("\n\n")[0]
        for module in re.findall(r' = "(.+)"', section):
            yield project.parent, module


def common() -> Any:
    """Return the command whose options stand before the verb."""
    return typer.main.get_command(app)


def flags(parameter: Any) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts]


def options(command: Any) -> list[Any]:
    found = [each for each in command.params if each.param_type_name == "option" and not getattr(each, "hidden", False)]
    return [each for each in found if each.name not in ("install_completion", "show_completion")]


def page() -> str:
    """Write the page."""
    group = common()
    parts = [
        "# The command line",
        (group.help or "").strip(),
        "`edgead help GROUP` and `edgead VERB --help` print the same. With `--json`, a verb prints its report as JSON.",
        "## Before the verb",
        _options(group),
        "## Verbs",
        table(
            ("verb", "does"),
            ([f"[`{PREFIX} {name}`](#{_anchor(name)})", _summary(each)] for name, each in commands().items()),
        ),
    ]
    packages = of_plugins(GROUP)
    for name, command in commands().items():
        parts += [f"## `{PREFIX} {name}` {{ #{_anchor(name)} }}", *_described(command)]
        if package := packages.get(name.partition(" ")[0]):
            parts.append(f"Comes with the package `{package}` of the repository.")
    return "\n\n".join(parts) + "\n"


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _context(command: Any, path: str) -> Any:
    return command.context_class(command, info_name=path)


def _summary(command: Any) -> str:
    return (command.help or "").strip().split("\n\n")[0]


def _described(command: Any) -> Iterator[str]:
    yield (command.help or "").strip()
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    if arguments:
        yield table(("argument", "is"), ([code(each.name.upper()), each.help or ""] for each in arguments))
    yield _options(command)


def _options(command: Any) -> str:
    hints = _hints(command)
    rows = [
        [", ".join(map(code, flags(each))), _takes(each, hints), _default(each), each.help or ""]
        for each in options(command)
    ]
    return table(("option", "takes", "default", "means"), rows)


def _takes(option: Any, hints: dict[str, Any]) -> str:
    if option.is_flag:
        return ""
    kinds = [kind for kind in _leaves(hints[option.name]) if kind is not type(None)]
    several = "; may be repeated" if option.multiple else ""
    if isinstance(kinds[0], type) and issubclass(kinds[0], Enum):
        return ", ".join(code(choice.value) for choice in kinds[0]) + several
    if any(isinstance(kind, str) for kind in kinds):
        return ", ".join(map(code, kinds)) + several
    bounds = [("from", getattr(option, "min", None)), ("to", getattr(option, "max", None))]
    limits = " ".join(f"{word} {value:g}" for word, value in bounds if value is not None)
    return f"{_KINDS.get(kinds[0], kinds[0].__name__)} {limits}".strip() + several


def _hints(command: Any) -> dict[str, Any]:
    """Return the types of a verb's parameters: typer's own names for them differ from version to version."""
    return get_type_hints(inspect.unwrap(command.callback)) if command.callback else {}


def _leaves(hint: Any) -> Iterator[Any]:
    inner = get_args(hint)
    if not inner:
        yield hint
    for each in inner:
        yield from _leaves(each)


def _default(option: Any) -> str:
    if option.required:
        return "must be given"
    value = getattr(option.default, "value", option.default)
    return "" if value in (None, False, True) or callable(value) or value == [] else code(value)
