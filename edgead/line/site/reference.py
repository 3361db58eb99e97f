"""Reference of all components as Markdown, from their registered options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgead.components.options import Section
from edgead.components.registry import Component, Registry
from edgead.line.triggers import TRIGGERS
from edgead.runtime import RUNTIMES
from edgead.sinks import SINKS, SinkOptions
from edgead.sources import SOURCES
from edgead.sources.line_scan import LineScan

Schema = Mapping[str, Any]
_BOUNDS = {
    "exclusiveMinimum": "above {}",
    "minimum": "from {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "minLength": "of at least {} characters",
    "maxLength": "and at most {}",
}
KINDS: tuple[tuple[Registry[Any], str], ...] = (
    (SOURCES, "Where frames come from: `uri:` of a camera in the site file, the SOURCE of `edgead stream`."),
    (SINKS, "Where verdicts go: `kind:` of a sink in the site file, or a URI after `--sink`."),
    (TRIGGERS, "Which frames are judged: `trigger: {kind: ...}` of a pipeline in the site file."),
    (RUNTIMES, "What runs the network: `runtime:` of a pipeline, `--runtime`; options follow a `?`."),
)


def reference(*, own: bool = False) -> str:
    """Return the reference as Markdown: every component with its schemes, and its options with bounds and defaults.

    `own`: whether to leave out components of other packages.
    """
    parts = ["# Components"]
    for registry, text in KINDS:
        parts += [f"## {registry.kind.capitalize()}s", text]
        if registry is SOURCES:
            parts += [
                "To join the strips of a line-scan camera, every source of images takes",
                *options_table(LineScan, without=set()),
            ]
        if registry is SINKS:
            parts += ["Every sink takes", *options_table(SinkOptions, without={"kind"})]
        for component in (registry.builtin() if own else registry.all()).values():
            parts += list(_section(component))
    return "\n\n".join(parts) + "\n"


def _section(component: Component) -> Iterator[str]:
    yield f"### `{component.name}`"
    yield component.summary
    if component.schemes:
        yield "URIs: " + ", ".join(f"`{example}`" for example in component.schemes.values())
    shared = set(SinkOptions.model_fields) if issubclass(component.options, SinkOptions) else {"kind"}
    yield from options_table(component.options, without=shared)


def options_table(options: type[Section], *, without: set[str]) -> list[str]:
    """Return a list with a Markdown table of a section's options except those in `without`, or an empty list."""
    schema = options.model_json_schema()
    named = {name: field for name, field in schema.get("properties", {}).items() if name not in without}
    if not named:
        return []
    required, definitions = schema.get("required", ()), schema.get("$defs", {})
    rows = ["| option | takes | default | means |\n|---|---|---|---|"]
    for name, field in named.items():
        default = "must be given" if name in required else _default(field.get("default"))
        cells = (f"`{name}`", _takes(field, definitions), default, field.get("description", ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return ["\n".join(rows)]


def _default(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"`{name}: {_default(item).strip('`')}`" for name, item in value.items())
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _takes(field: Schema, definitions: Schema) -> str:
    """Describe in words the values that a field takes, from its JSON Schema."""
    if "$ref" in field:
        inner = definitions[field["$ref"].rpartition("/")[2]]["properties"]
        return ", ".join(f"`{name}:` {_takes(item, definitions)}" for name, item in inner.items())
    if "allOf" in field:  # pydantic before 2.9
        return _takes(field["allOf"][0], definitions)
    if "anyOf" in field:
        choices = [choice for choice in field["anyOf"] if choice.get("type") != "null"]
        return " or ".join(_takes(choice, definitions) for choice in choices)
    if "enum" in field or "const" in field:
        return ", ".join(f"`{choice}`" for choice in field.get("enum", [field.get("const")]))
    if "prefixItems" in field:
        return f"{len(field['prefixItems'])} numbers"
    if field["type"] == "array":
        return f"list of {_takes(field['items'], definitions)}"
    if field["type"] == "object":
        return f"{_takes(field['additionalProperties'], definitions)} by number"
    bounds = " ".join(text.format(f"{field[key]:,.10g}") for key, text in _BOUNDS.items() if key in field)
    names = {"integer": "whole number", "boolean": "`true`, `false`", "number": "number", "string": "text"}
    kind = {"path": "path", "password": "secret"}.get(field.get("format", ""), names[field["type"]])
    return f"{kind} {bounds}".rstrip()
