"""Reference of the site file, generated from the models that read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from docs.make.markdown import table
from edgead.components.options import Section
from edgead.line.site.reference import options_table
from edgead.line.site.schema import Site
from edgead.line.triggers import TriggerOptions
from edgead.sinks import SinkOptions

# Composed of what components register: a page of their own.
_COMPONENTS = {SinkOptions: "[Sinks](components.md#sinks)", TriggerOptions: "[Triggers](components.md#triggers)"}


def sections() -> list[tuple[str, type[Section]]]:
    """Return every section of a site file by its place, such as `cameras.NAME.health`."""
    return list(_walk("", Site))


def page() -> str:
    """Write the page."""
    parts = [
        "# The site file",
        "`edgead daemon -c site.yaml` reads it. `edgead daemon -c site.yaml --check` prints it with all "
        "defaults and no secret, `edgead daemon --schema` prints its JSON Schema. Unknown keys are errors. "
        "`${NAME}` in a value is taken from the environment.",
    ]
    for place, section in sections():
        parts += [f"## `{place}`" if place else "## At the top", _summary(section)]
        parts += options_table(section, without=set(_inner(section)))
        links = [
            [f"`{name}`", section.model_fields[name].description or "", _link(place, name, kinds)]
            for name, kinds in _inner(section).items()
        ]
        parts += [table(("section", "is", "described in"), links)] if links else []
    return "\n\n".join(parts) + "\n"


def _summary(section: type[Section]) -> str:
    return (section.__doc__ or "").strip().split("\n\n")[0]


def _walk(place: str, section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    yield place, section
    for name, (kind, named) in _inner(section).items():
        if kind not in _COMPONENTS:
            yield from _walk(f"{place}.{name}".lstrip(".") + (".NAME" if named else ""), kind)


def _inner(section: type[Section]) -> dict[str, tuple[type[Section], bool]]:
    """Return the fields that are sections, each with whether it maps names to sections."""
    found = {}
    for name, field in section.model_fields.items():
        kinds = [kind for kind in _kinds(field.annotation) if isinstance(kind, type) and issubclass(kind, Section)]
        if kinds:
            found[name] = (kinds[0], "dict[" in str(field.annotation))
    return found


def _kinds(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is None:  # in Python 3.10 list[int] passes for a class
        yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)


def _link(place: str, name: str, kind: tuple[type[Section], bool]) -> str:
    section, named = kind
    if section in _COMPONENTS:
        return _COMPONENTS[section]
    where = f"{place}.{name}".lstrip(".") + (".NAME" if named else "")
    return f"[`{where}`](#{where.replace('.', '').lower()})"
