"""Registry of triggers: each registers itself with its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgead.components.registry import Component, Registry, check_kind
from edgead.line.triggers.contract import Trigger, TriggerOptions


@dataclass(frozen=True, slots=True)
class TriggerComponent(Component):
    """Registration of a kind of trigger; `open` makes the trigger from its options, or raises SettingsError."""

    open: Callable[[Any], Trigger]


TRIGGERS: Registry[TriggerComponent] = Registry(
    "trigger", tuple(f"edgead.line.triggers.{name}" for name in "timing mqtt modbus part_in_view".split())
)


def register(name: str, options: type[TriggerOptions], open: Callable[[Any], Trigger]) -> None:
    """Register a trigger; `name` is its `kind:` in the site file.

    Raises SettingsError: the name is taken, or the options have no `kind: Literal[name]`.
    """
    check_kind(name, options)
    TRIGGERS.add(TriggerComponent(name, options, {}, open))
