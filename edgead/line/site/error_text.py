"""Errors of a site file as text for its author: line, place, what was expected, and the likely intention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from edgead.errors import invalid_reason, suggestion
from edgead.files.strict_yaml import YamlFile

Schema = Mapping[str, Any]
Place = tuple[Any, ...]
_NAME = "lower-case letters, digits, - and _, beginning with a letter, at most 32"


class PlacedError(ValueError):
    """Error at another place of the site file than the section of the pydantic model which finds it."""

    def __init__(self, place: Place, reason: str):
        super().__init__(f"{dotted(place) or 'the file'}: {reason}")
        self.place = place
        self.reason = reason


def dotted(place: Place) -> str:
    """Write a place as `pipelines.line.model`."""
    return ".".join(map(str, place))


def explain(error: ValidationError, model: type[BaseModel], file: YamlFile) -> str:
    """Return pydantic's errors in a site file as text, one problem per line, without the file's values."""
    schema = model.model_json_schema()
    found: dict[Place, list[str]] = {}
    missing: set[Place] = set()
    unknown: dict[Place, list[str]] = {}
    for one in error.errors():
        place, section = _place(schema, one["loc"])
        cause = one.get("ctx", {}).get("error")
        reason = f"a name is of {_NAME}" if one["loc"][-1:] == ("[key]",) else ""
        if isinstance(cause, PlacedError):
            place, reason = (*place, *cause.place), cause.reason
        if one["type"] == "missing":
            missing.add(place)
        if one["type"] == "extra_forbidden":
            unknown[place] = list(section.get("properties", ()))
        found.setdefault(place, []).append(reason or invalid_reason(one))
    for place, known in unknown.items():
        around, key = place[:-1], place[-1]
        meant = next((name for name in known if (*around, name) in missing and suggestion(key, [name])), None)
        hint = suggestion(key, [meant] if meant else known) or f"; known are {', '.join(known)}"
        found[place] = [f"unknown key{hint}"]
        if meant:  # a misspelt key is not missing as well
            found.pop((*around, meant), None)
    return "\n".join(
        f"{file.where(place)}: {dotted(place) or 'the file'}: {' or '.join(dict.fromkeys(reasons))}"
        for place, reasons in sorted(found.items(), key=lambda item: file.line(item[0]))
    )


def _place(schema: Schema, location: Sequence[Any]) -> tuple[Place, Schema]:
    """Return a location's keys that are in the file, and the schema of the section that holds the last one.

    Pydantic's locations also name the chosen kind (`sinks.broker.mqtt.host`) and the branch of a union.
    """
    definitions = schema.get("$defs", {})
    place: list[Any] = []
    node = section = schema
    for part in location:
        kinds = node.get("discriminator", {}).get("mapping", {})
        if part in kinds:
            node = _resolved({"$ref": kinds[part]}, definitions)
            continue
        inner = _inner(node, part)
        if part == "[key]" or (inner is None and "properties" not in node):
            break
        place.append(part)
        section, node = node, _resolved(inner or {}, definitions)
    return tuple(place), section


def _resolved(node: Schema, definitions: Schema) -> Schema:
    """Follow a schema's references; of a schema that may also be null, return the other branch."""
    while True:
        if "$ref" in node:
            node = definitions[node["$ref"].rpartition("/")[2]]
        elif "anyOf" in node and len(rest := [one for one in node["anyOf"] if one.get("type") != "null"]) == 1:
            node = rest[0]
        else:
            return node


def _inner(node: Schema, part: Any) -> Schema | None:
    if isinstance(part, int):
        return node.get("items")
    if part in node.get("properties", {}):
        return node["properties"][part]
    named = node.get("additionalProperties") or next(iter(node.get("patternProperties", {}).values()), None)
    return named if isinstance(named, Mapping) else None
