"""Heads, which turn the network's outputs into scores and a map. One file for each; plugins add others.

A head is found by the `kind` that a manifest names: a built-in one, or an entry point of the group `edgead.heads`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from edgead.components.added import load_entry
from edgead.errors import EdgeadError, SettingsError
from edgead.heads.contract import Head
from edgead.process.installation import comes_with

# A head is imported when a model names it, so that a device loads only the code it needs.
BUILT_IN = {
    "nearest": "edgead.heads.nearest:NearestHead",
    "map": "edgead.heads.map:MapHead",
    "local": "edgead.heads.local:LocalHead",
    "push": "edgead.heads.push:PushHead",
    "cycle": "edgead.heads.cycle:CycleHead",
}
GROUP = "edgead.heads"
# Removed options that earlier models may have as 0, which changed nothing; `graph_weight` was one of banks alone.
_GONE = {"nearest": ("reweight_neighbors", "graph_weight")}

__all__ = ["BUILT_IN", "GROUP", "Head", "HeadError", "find_head", "read_head"]


class HeadError(EdgeadError):
    """Head that is not installed on this machine."""


def find_head(kind: str) -> type[Head]:
    """Find a head by its kind.

    Raises HeadError: no head of that kind is installed, or the entry point does not load or is no head of that kind.
    """
    if kind in BUILT_IN:
        module, _, name = BUILT_IN[kind].partition(":")
        head: Any = getattr(import_module(module), name)
        return head  # type: ignore[no-any-return]
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if kind not in installed:
        source = comes_with(GROUP, kind) or "install the package that brings it, or update edgead"
        raise HeadError(
            f"the head {kind!r} is not installed, here are {', '.join(sorted({*BUILT_IN, *installed}))}: {source}"
        )
    try:
        head = load_entry(installed[kind])
    except (ImportError, AttributeError, SettingsError) as error:
        raise HeadError(f"the head {kind!r} does not load ({error}): install its package again") from error
    if not (isinstance(head, type) and issubclass(head, Head)):
        raise HeadError(f"{installed[kind].value}, the head {kind!r}, is no subclass of edgead.heads.Head")
    if head.model_fields["kind"].default != kind:
        raise HeadError(f"the kind of {installed[kind].value} is {head.model_fields['kind'].default!r}, not {kind!r}")
    return head


def read_head(content: object) -> Head:
    """Make a head from its section of a manifest; raises HeadError, or pydantic's ValidationError for wrong options."""
    if isinstance(content, Head):
        return content
    if not isinstance(content, Mapping) or not isinstance(content.get("kind"), str):
        raise HeadError("a head is a section with a kind")
    options = dict(content)
    for name in _GONE.get(options["kind"], ()):
        if value := options.pop(name, 0):
            raise HeadError(
                f"the model was made by an earlier edgead, and its score needs {name} {value!r}, which is no longer "
                "there: retrain it"
            )
    return find_head(options["kind"]).model_validate(options)
