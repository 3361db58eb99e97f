"""Triggers, which choose the frames to judge: all, one in each interval, on request, or one for each part."""

from __future__ import annotations

from edgead.errors import SettingsError
from edgead.line.triggers.contract import (
    AnsweringTrigger,
    NamingTrigger,
    PartTrigger,
    RequestTrigger,
    Trigger,
    TriggerOptions,
)
from edgead.line.triggers.registry import TRIGGERS, register

__all__ = [
    "TRIGGERS",
    "AnsweringTrigger",
    "NamingTrigger",
    "PartTrigger",
    "RequestTrigger",
    "Trigger",
    "TriggerOptions",
    "open_trigger",
    "register",
]


def open_trigger(options: TriggerOptions) -> Trigger:
    """Open the trigger of a section of the site file.

    Raises SettingsError: its connection cannot be opened, or a package is missing.
    """
    found = TRIGGERS.named(options.kind)
    if found is None:
        raise SettingsError(f"unknown trigger {options.kind!r}: known are {', '.join(TRIGGERS.all())}")
    return found.open(options)
