"""Outline of a method: purpose, presets and settings, read from its source file without importing it.

So listing the methods, or refusing a misspelt preset, need not wait for the import of torch.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgead.errors import SettingsError, suggestion

_METHOD = "edgead.adapt.methods.method"


@dataclass(frozen=True)
class Outline:
    """Purpose, presets and settings of a method.

    `presets`: purpose of each preset, by its name.
    `settings`: names of the configuration's fields, in their order; None if the method's file does not contain all of
        them, or there are several configurations (`Method.variant`).
    `leaves_out`: whether the method learns in folds (see `Method`); None if it makes no limits, or a base class tells.
    """

    purpose: str
    presets: Mapping[str, str]
    settings: tuple[str, ...] | None
    leaves_out: bool | None


def read_outline(where: str) -> Outline | None:
    """Read the outline of `module:Class`; None if the source does not give it, so that the class must be imported."""
    module, _, name = where.partition(":")
    classes = _classes(module)
    if name not in classes:
        return None
    fields = _assigned(classes[name])
    try:
        purpose = ast.literal_eval(fields["purpose"])
        purposes = ast.literal_eval(fields["preset_purposes"])
        named = [ast.literal_eval(key) for key in fields["presets"].keys if key] if "presets" in fields else ["default"]
    except (AttributeError, KeyError, ValueError):  # inherited, or computed
        return None
    described = {preset: purposes.get(preset, "") for preset in named}
    return Outline(purpose, described, _settings(classes, classes[name]), _leaves_out(classes[name], fields))


def check_known(settings: Iterable[str], known: Collection[str], *, detector: str) -> None:
    """Raise SettingsError for settings that a detector does not have; the message lists the known settings."""
    unknown = sorted(set(settings) - set(known))
    if unknown:
        meant = "".join(suggestion(name, known) for name in unknown)
        raise SettingsError(f"{detector} has no setting {', '.join(unknown)}: it has {', '.join(known)}{meant}")


def _settings(classes: Mapping[str, ast.ClassDef], method: ast.ClassDef) -> tuple[str, ...] | None:
    variants = any(isinstance(node, ast.FunctionDef) and node.name == "variant" for node in method.body)
    written = _assigned(method).get("config_class")
    config = classes.get(written.id) if isinstance(written, ast.Name) else None
    if variants or config is None or [ast.unparse(base) for base in config.bases] != ["MethodConfig"]:
        return None
    return tuple(_assigned(_classes(_METHOD)["MethodConfig"]) | _assigned(config))


def _leaves_out(method: ast.ClassDef, fields: Mapping[str, Any]) -> bool | None:
    of_edgead = [ast.unparse(base).partition("[")[0] for base in method.bases] in (["Method"], ["NetworkMethod"])
    takes_colours = "inputs" not in fields or "'rgb'" in ast.unparse(fields["inputs"])  # else that refusal is first
    if not of_edgead or not takes_colours or fields.keys() & {"calibrated", "in_order", "learns_from"}:
        return None
    return any(isinstance(node, ast.FunctionDef) and node.name == "leaves_out" for node in method.body)


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    try:
        spec = find_spec(module)
    except ImportError:  # raised by its package; importing the method reports the reason
        return {}
    if spec is None or spec.origin is None:
        return {}
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _assigned(found: ast.ClassDef) -> dict[str, Any]:
    assigned: dict[str, Any] = {}
    for node in found.body:
        if isinstance(node, ast.AnnAssign):
            assigned[ast.unparse(node.target)] = node.value
        elif isinstance(node, ast.Assign):
            assigned[ast.unparse(node.targets[0])] = node.value
    return assigned
